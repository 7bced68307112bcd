/**
 * Convolutions: windows as rows, then a matrix product.
 *
 * Legend: B batch, C channels, O output channels, H height, W width, T time, G groups, K elements of a window.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { checkOptions, refuse } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { checkFloats, checkTensor, type Tensor } from "../tensor.ts";
import { add } from "./arithmetic.ts";
import { matmul } from "./matmul.ts";
import { permute, reshape } from "./movement.ts";
import { pairOf, windowsOf } from "./windows.ts";

/** Options of {@link conv1d} and {@link conv2d}: a number for all axes, or one for each. */
export interface ConvolutionOptions {
  /** f32 [O], added to each output channel; none when absent. */
  readonly bias?: Tensor;
  /** Steps from a window to the next; 1 when absent. */
  readonly stride?: number | readonly number[];
  /** Zeros on both sides; 0 when absent. */
  readonly padding?: number | readonly number[];
  /** Steps from an element of a window to the next; 1 when absent. */
  readonly dilation?: number | readonly number[];
  /** Groups of channels that are convolved on their own; 1 when absent. */
  readonly groups?: number;
}

/**
 * Convolution along one axis, as `torch.nn.functional.conv1d`: windows are not mirrored.
 *
 * @param x f32 [B, C, T]
 * @param weight f32 [O, C / groups, K]
 * @param options Bias, stride, padding, dilation and groups
 * @returns f32 [B, O, windows]
 * @throws {ShapeError} When the shapes do not fit, or a window is larger than the padded input
 * @throws {InputError} When an option is out of range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { conv1d } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const x = tensor([1, 2, 3, 4], [1, 1, 4]), weight = tensor([1, -1], [1, 1, 2]);
 * assertEquals([...await read(gpu, conv1d(x, weight, { padding: 1 }))], [-1, -1, -1, -1, 4]);
 * ```
 */
export function conv1d(x: Tensor, weight: Tensor, options: ConvolutionOptions = {}): Tensor {
  return convolve("conv1d", { x, weight, options, axes: 1 });
}

/**
 * Convolution along two axes, as `torch.nn.functional.conv2d`: windows are not mirrored.
 *
 * @param x f32 [B, C, H, W]
 * @param weight f32 [O, C / groups, KH, KW]
 * @param options Bias, stride, padding, dilation and groups
 * @returns f32 [B, O, windows along H, windows along W]
 * @throws {ShapeError} When the shapes do not fit, or a window is larger than the padded input
 * @throws {InputError} When an option is out of range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fill, openGpu, read, tensor } from "@firn/train";
 * import { conv2d } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const x = tensor([1, 2, 3, 4], [1, 1, 2, 2]);
 * assertEquals([...await read(gpu, conv2d(x, fill(1, [1, 1, 2, 2])))], [10]);
 * ```
 */
export function conv2d(x: Tensor, weight: Tensor, options: ConvolutionOptions = {}): Tensor {
  return convolve("conv2d", { x, weight, options, axes: 2 });
}

interface Convolution {
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly options: ConvolutionOptions;
  readonly axes: 1 | 2;
}

function convolve(op: string, { x, weight, options, axes }: Convolution): Tensor {
  checkTensor(op, x, "x");
  checkTensor(op, weight, "weight");
  checkFloats(op, [x, weight]);
  checkOptions(op, options);
  const { bias, stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
  const shapes = [x.shape, weight.shape], [outputs, own] = weight.shape;
  if (shapes.some(({ length }) => length !== axes + 2)) {
    const sizes = axes === 1 ? ["T", "K"] : ["H, W", "KH, KW"];
    throw new ShapeError(op, `x must be [B, C, ${sizes[0]}] and weight [O, C / groups, ${sizes[1]}]`, shapes);
  }
  if (!(Number.isInteger(groups) && groups >= 1)) {
    refuse(op, '"groups" must be a whole number above 0', groups);
  }
  if (x.shape[1] !== own * groups || outputs % groups !== 0) {
    const rule = `channels must be those of the weight times groups, ${groups}, which divides the outputs`;
    throw new ShapeError(op, rule, shapes);
  }
  if (bias !== undefined) checkBias(op, bias, outputs);
  const pair = (name: string, value: number | readonly number[], least: number): readonly [number, number] =>
    pairOf(op, { name, value, axes, least, neutral: least });
  const images = axes === 1 ? reshape(x, x.shape.toSpliced(2, 0, 1)) : x;
  const [kh, kw] = axes === 1 ? [1, weight.shape[2]] : weight.shape.slice(2);
  const { rows, counts } = windowsOf(op, images, {
    groups,
    kernel: [kh, kw],
    stride: pair("stride", stride, 1),
    padding: pair("padding", padding, 0),
    dilation: pair("dilation", dilation, 1),
    value: 0,
  });
  const batch = x.shape[0], each = outputs / groups, count = counts[0] * counts[1], k = own * kh * kw;
  // [G, B L, K] times [G, O / G, K]; for one group a product of matrices.
  const product = groups === 1
    ? matmul(reshape(rows, [batch * count, k]), reshape(weight, [outputs, k]), { transposeB: true })
    : matmul(rows, reshape(weight, [groups, each, k]), { transposeB: true });
  const moved = permute(reshape(product, [groups, batch, count, each]), [1, 0, 3, 2]);
  const y = reshape(moved, [batch, outputs, ...(axes === 1 ? [count] : counts)]);
  return bias === undefined ? y : add(y, reshape(bias, [outputs, ...Array.from({ length: axes }, () => 1)]));
}

function checkBias(op: string, bias: Tensor, outputs: number): void {
  checkTensor(op, bias, "bias");
  if (bias.shape.length !== 1 || bias.shape[0] !== outputs) {
    throw new ShapeError(op, `the bias must have ${counted(outputs, "value")}, one for each output`, [
      bias.shape,
    ]);
  }
}
