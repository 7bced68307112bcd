/**
 * Pooling: the largest element or the mean of windows.
 *
 * @module
 */

import { LOWEST_F32 } from "../../kernels/windows.ts";
import { checkFlag, checkOptions } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { tensor } from "../sources.ts";
import { checkFloats, checkTensor, type Tensor } from "../tensor.ts";
import { divide } from "./arithmetic.ts";
import { sum } from "./broadcast.ts";
import { reshape } from "./movement.ts";
import { topK } from "./top_k.ts";
import { pairOf, type WindowAttrs, type Windows, windowsOf } from "./windows.ts";

/** Options of pooling: a number for all axes, or one for each. */
export interface PoolOptions {
  /** Size of a window. */
  readonly size: number | readonly number[];
  /** Steps from a window to the next; the size of a window when absent. */
  readonly stride?: number | readonly number[];
  /** Elements around the input on both sides, at most half a window; 0 when absent. */
  readonly padding?: number | readonly number[];
}

/** Options of pooling by means. */
export interface AveragePoolOptions extends PoolOptions {
  /** Whether a mean counts the zeros around the input; true when absent, as in PyTorch. */
  readonly countIncludePad?: boolean;
}

/**
 * The largest element of each window along one axis. The gradient goes to the first of equal ones.
 *
 * @param x f32 [B, C, T]
 * @param options Size of the windows, stride and padding, which is never the largest
 * @returns f32 [B, C, windows]
 * @throws {ShapeError} When `x` has other axes, or a window is larger than the padded input
 * @throws {InputError} When an option is out of range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { maxPool1d } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, maxPool1d(tensor([1, 5, 3, 2], [1, 1, 4]), { size: 2 }))], [5, 3]);
 * ```
 */
export function maxPool1d(x: Tensor, options: PoolOptions): Tensor {
  return largest("maxPool1d", x, { options, axes: 1 });
}

/**
 * The largest element of each window along two axes. The gradient goes to the first of equal ones.
 *
 * @param x f32 [B, C, H, W]
 * @param options Size of the windows, stride and padding, which is never the largest
 * @returns f32 [B, C, windows along H, windows along W]
 * @throws {ShapeError} When `x` has other axes, or a window is larger than the padded input
 * @throws {InputError} When an option is out of range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { maxPool2d } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, maxPool2d(tensor([1, 5, 3, 2], [1, 1, 2, 2]), { size: 2 }))], [5]);
 * ```
 */
export function maxPool2d(x: Tensor, options: PoolOptions): Tensor {
  return largest("maxPool2d", x, { options, axes: 2 });
}

/**
 * The mean of each window along one axis.
 *
 * @param x f32 [B, C, T]
 * @param options Size of the windows, stride, padding by zeros and whether they count
 * @returns f32 [B, C, windows]
 * @throws {ShapeError} When `x` has other axes, or a window is larger than the padded input
 * @throws {InputError} When an option is out of range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { avgPool1d } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, avgPool1d(tensor([1, 5, 3, 2], [1, 1, 4]), { size: 2 }))], [3, 2.5]);
 * ```
 */
export function avgPool1d(x: Tensor, options: AveragePoolOptions): Tensor {
  return average("avgPool1d", x, { options, axes: 1 });
}

/**
 * The mean of each window along two axes.
 *
 * @param x f32 [B, C, H, W]
 * @param options Size of the windows, stride, padding by zeros and whether they count
 * @returns f32 [B, C, windows along H, windows along W]
 * @throws {ShapeError} When `x` has other axes, or a window is larger than the padded input
 * @throws {InputError} When an option is out of range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { avgPool2d } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, avgPool2d(tensor([1, 5, 3, 2], [1, 1, 2, 2]), { size: 2 }))], [2.75]);
 * ```
 */
export function avgPool2d(x: Tensor, options: AveragePoolOptions): Tensor {
  return average("avgPool2d", x, { options, axes: 2 });
}

interface Pooling<O extends PoolOptions> {
  readonly options: O;
  readonly axes: 1 | 2;
}

/** Windows of each channel, f32 [B C L, K], and what describes them. */
interface Pool extends Windows {
  readonly attrs: WindowAttrs;
  /** Shape of the result. */
  readonly shape: readonly number[];
}

function poolOf(
  op: string,
  x: Tensor,
  { options, axes, value }: Pooling<PoolOptions> & { readonly value: number },
): Pool {
  checkTensor(op, x, "x");
  checkFloats(op, [x]);
  checkOptions(op, options, "its second argument must be a record with size");
  if (x.shape.length !== axes + 2) {
    throw new ShapeError(op, `x must be ${axes === 1 ? "[B, C, T]" : "[B, C, H, W]"}`, [x.shape]);
  }
  const { size, stride = size, padding = 0 } = options;
  const pair = (name: string, value: number | readonly number[], least: number): readonly [number, number] =>
    pairOf(op, { name, value, axes, least, neutral: least });
  const kernel = pair("size", size, 1), around = pair("padding", padding, 0);
  if (around.some((n, d) => 2 * n > kernel[d])) {
    throw new ShapeError(op, `"padding" must be at most half a window`, [[...around], [...kernel]]);
  }
  const [batch, channels, ...sizes] = x.shape;
  const images = reshape(x, [batch * channels, 1, ...(axes === 1 ? [1] : []), ...sizes]);
  const attrs = {
    groups: 1,
    kernel,
    stride: pair("stride", stride, 1),
    padding: around,
    dilation: [1, 1] as const,
    value,
  };
  const { rows, counts } = windowsOf(op, images, attrs);
  const shape = [batch, channels, ...(axes === 1 ? counts.slice(1) : counts)];
  return { rows: reshape(rows, rows.shape.slice(1)), counts, attrs, shape };
}

function largest(op: string, x: Tensor, pooling: Pooling<PoolOptions>): Tensor {
  const { rows, shape } = poolOf(op, x, { ...pooling, value: LOWEST_F32 });
  return reshape(topK(rows, 1).values, shape);
}

function average(op: string, x: Tensor, pooling: Pooling<AveragePoolOptions>): Tensor {
  const { rows, attrs, counts, shape } = poolOf(op, x, { ...pooling, value: 0 });
  const { countIncludePad = true } = pooling.options, [kh, kw] = attrs.kernel;
  checkFlag(op, "countIncludePad", countIncludePad);
  const total = reshape(sum(rows, -1), shape);
  if (countIncludePad) return divide(total, kh * kw);
  const sizes = pooling.axes === 1 ? [1, ...x.shape.slice(2)] : x.shape.slice(2);
  const [high, wide] = ([0, 1] as const).map((d) =>
    Array.from({ length: counts[d] }, (_, i) => {
      const start = i * attrs.stride[d] - attrs.padding[d];
      return Math.min(start + attrs.kernel[d], sizes[d]) - Math.max(start, 0);
    })
  );
  return divide(total, tensor(high.flatMap((h) => wide.map((w) => h * w)), shape.slice(2)));
}
