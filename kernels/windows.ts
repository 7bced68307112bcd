/**
 * Windows of images as rows of a matrix, and sums of such rows back to images: what convolution and pooling need besides
 * products and reductions.
 *
 * Legend: B batch, C channels, H height, W width, G groups, L windows of an image, K elements of a window.
 *
 * @module
 */

import { f32, type Kernel } from "./kernel.ts";
import { flatKernel } from "./rows.ts";

/** A number along the height, and one along the width. */
export type Pair = readonly [height: number, width: number];

/** The lowest f32: what pads windows of which the largest element is wanted. */
export const LOWEST_F32 = -3.4028234663852886e38;

/** Windows of images. */
export interface WindowOptions {
  /** Images. */
  readonly batch: number;
  /** Channels of each. */
  readonly channels: number;
  /** Size of an image. */
  readonly size: Pair;
  /** Channels are split into so many groups. */
  readonly groups: number;
  /** Size of a window. */
  readonly kernel: Pair;
  /** Steps from a window to the next. */
  readonly stride: Pair;
  /** Rows and columns around an image on each side. */
  readonly padding: Pair;
  /** Steps from an element of a window to the next. */
  readonly dilation: Pair;
}

/**
 * Counts the windows of an image.
 *
 * @param options The windows
 * @returns Their number along height and width; below 1 when a window is larger than the padded image
 */
export function windowCounts(
  { size, kernel, stride, padding, dilation }: Omit<WindowOptions, "batch" | "channels" | "groups">,
): Pair {
  const along = (d: 0 | 1): number =>
    Math.floor((size[d] + 2 * padding[d] - dilation[d] * (kernel[d] - 1) - 1) / stride[d]) + 1;
  return [along(0), along(1)];
}

/**
 * Copies windows to rows, image by image.
 *
 * Bindings: a0 `x[B,C,H,W]`; o0 `rows[G,B*L,C/G*K]`.
 *
 * @param options The windows; `value`: of elements outside an image
 * @returns The kernel
 */
export function windows(options: WindowOptions & { readonly value: number }): Kernel {
  const { batch, channels, size: [h, w], groups, kernel: [kh, kw], stride, padding, dilation, value } =
    options;
  const [oh, ow] = windowCounts(options), own = channels / groups;
  return flatKernel({
    name: `windows ${kh}x${kw} of ${batch}x${channels}x${h}x${w}`,
    items: batch * channels * kh * kw * oh * ow,
    inputs: ["f32"],
    outputs: ["f32"],
    body: `  let kx = i % ${kw}u;
  let ky = i / ${kw}u % ${kh}u;
  let c = i / ${kw * kh}u % ${own}u;
  let window = i / ${kw * kh * own}u;
  let image = window / ${ow * oh}u;
  let y = i32(window / ${ow}u % ${oh}u * ${stride[0]}u + ky * ${dilation[0]}u) - ${padding[0]};
  let x = i32(window % ${ow}u * ${stride[1]}u + kx * ${dilation[1]}u) - ${padding[1]};
  var value = ${f32(value)};
  if (y >= 0 && y < ${h} && x >= 0 && x < ${w}) {
    let channel = image % ${batch}u * ${channels}u + image / ${batch}u * ${own}u + c;
    value = a0[(channel * ${h}u + u32(y)) * ${w}u + u32(x)];
  }
  o0[i] = value;
`,
  });
}

/**
 * Adds up rows of {@link windows} to images, the transpose of it: each element sums those of the windows that it is in, in a
 * fixed order.
 *
 * Bindings: a0 `rows[G,B*L,C/G*K]`; o0 `x[B,C,H,W]`.
 *
 * @param options The windows
 * @returns The kernel
 */
export function foldWindows(options: WindowOptions): Kernel {
  const { batch, channels, size: [h, w], groups, kernel: [kh, kw], stride, padding, dilation } = options;
  const [oh, ow] = windowCounts(options), own = channels / groups;
  const inside = (t: string, d: 0 | 1): string =>
    `${t} >= 0 && ${t} % ${stride[d]} == 0 && ${t} / ${stride[d]} < ${d === 0 ? oh : ow}`;
  return flatKernel({
    name: `fold_windows ${kh}x${kw} to ${batch}x${channels}x${h}x${w}`,
    items: batch * channels * h * w,
    inputs: ["f32"],
    outputs: ["f32"],
    flops: batch * channels * h * w * kh * kw,
    body: `  let x = i32(i % ${w}u) + ${padding[1]};
  let y = i32(i / ${w}u % ${h}u) + ${padding[0]};
  let channel = i / ${w * h}u % ${channels}u;
  let image = channel / ${own}u * ${batch}u + i / ${w * h * channels}u;
  var total = 0.0f;
  for (var ky = 0; ky < ${kh}; ky += 1) {
    let ty = y - ky * ${dilation[0]};
    if (!(${inside("ty", 0)})) { continue; }
    for (var kx = 0; kx < ${kw}; kx += 1) {
      let tx = x - kx * ${dilation[1]};
      if (!(${inside("tx", 1)})) { continue; }
      let window = (image * ${oh}u + u32(ty / ${stride[0]})) * ${ow}u + u32(tx / ${stride[1]});
      total += a0[((window * ${own}u + channel % ${own}u) * ${kh}u + u32(ky)) * ${kw}u + u32(kx)];
    }
  }
  o0[i] = total;
`,
  });
}
