/**
 * Reductions: maximum, minimum, mean, variance; `broadcast.ts` has the sum.
 *
 * @module
 */

import { checkOptions, refuse } from "../arguments.ts";
import { sizeOf } from "../spec.ts";
import type { Op, Tensor } from "../tensor.ts";
import { divide, multiply, negate, subtract } from "./arithmetic.ts";
import {
  batchReduce,
  inferReduce,
  keepAxes,
  keptShape,
  type ReduceAttrs,
  reduceAxes,
  reducedAxes,
  type ReduceOptions,
  sum,
} from "./broadcast.ts";
import { equal } from "./comparison.ts";
import { reshape } from "./movement.ts";

/** Takes the largest element along neighbouring axes; the planner fuses the elementwise operations that feed it. */
export const reduceMaxOp: Op<ReduceAttrs> = {
  name: "reduce",
  infer: inferReduce,
  batch: batchReduce,
  pullbacks: [({ inputs: [x], output, gradient, attrs: { axis, count } }) => {
    const kept = keptShape(x.shape, { axis, count }), largest = equal(x, reshape(output, kept));
    const axes = Array.from({ length: count }, (_, i) => axis + i);
    const share = divide(reshape(gradient, kept), sum(largest, axes, { keepDims: true }));
    return multiply(share, largest);
  }],
};

/**
 * Mean over axes.
 *
 * @param x f32 tensor
 * @param axes Axes to remove, negative from the end; all when absent
 * @param options Whether they stay with size 1
 * @returns f32, without those axes
 * @throws {ShapeError} When an axis does not exist or is named twice
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { mean, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const x = tensor([1, 2, 3, 5], [2, 2]);
 * assertEquals([...await read(gpu, mean(x, -1))], [1.5, 4]);
 * ```
 */
export function mean(x: Tensor, axes?: number | readonly number[], options: ReduceOptions = {}): Tensor {
  const removed = reducedAxes("mean", x, axes), total = sum(x, removed);
  const result = divide(total, sizeOf(x.shape) / sizeOf(total.shape));
  return keepAxes("mean", result, { options, shape: x.shape, axes: removed });
}

/**
 * Largest element over axes. Equal elements share the gradient.
 *
 * @param x f32 tensor
 * @param axes Axes to remove, negative from the end; all when absent
 * @param options Whether they stay with size 1
 * @returns f32, without those axes
 * @throws {ShapeError} When an axis does not exist or is named twice
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { max, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const x = tensor([1, 2, 3, 5], [2, 2]);
 * assertEquals([...await read(gpu, max(x))], [5]);
 * ```
 */
export function max(x: Tensor, axes?: number | readonly number[], options: ReduceOptions = {}): Tensor {
  const removed = reducedAxes("max", x, axes);
  return keepAxes("max", largest(x, removed), { options, shape: x.shape, axes: removed });
}

function largest(x: Tensor, axes: readonly number[]): Tensor {
  return reduceAxes(x, { op: reduceMaxOp, kind: "max", axes });
}

/**
 * Smallest element over axes. Equal elements share the gradient.
 *
 * @param x f32 tensor
 * @param axes Axes to remove, negative from the end; all when absent
 * @param options Whether they stay with size 1
 * @returns f32, without those axes
 * @throws {ShapeError} When an axis does not exist or is named twice
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { min } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const x = tensor([1, 2, 3, 5], [2, 2]);
 * assertEquals([...await read(gpu, min(x, 0))], [1, 2]);
 * ```
 */
export function min(x: Tensor, axes?: number | readonly number[], options: ReduceOptions = {}): Tensor {
  const removed = reducedAxes("min", x, axes), smallest = negate(largest(negate(x), removed));
  return keepAxes("min", smallest, { options, shape: x.shape, axes: removed });
}

/** Options of {@link variance}. */
export interface VarianceOptions extends ReduceOptions {
  /** What the number of elements is reduced by before the division, less than it; 0 when absent, 1 for a sample. */
  readonly correction?: number;
}

/**
 * Variance over axes: the mean of squared differences from the mean.
 *
 * @param x f32 tensor
 * @param axes Axes to remove, negative from the end; all when absent
 * @param options Correction of the divisor, 0 as in NumPy (PyTorch has 1), and whether the axes stay with size 1
 * @returns f32, without those axes
 * @throws {ShapeError} When an axis does not exist or is named twice
 * @throws {InputError} When the correction leaves no divisor
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { variance } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, variance(tensor([1, 3])))], [1]);
 * assertEquals([...await read(gpu, variance(tensor([1, 3]), 0, { correction: 1 }))], [2]);
 * ```
 */
export function variance(
  x: Tensor,
  axes?: number | readonly number[],
  options: VarianceOptions = {},
): Tensor {
  const removed = reducedAxes("variance", x, axes);
  checkOptions("variance", options);
  const { correction = 0 } = options;
  const off = subtract(x, mean(x, removed, { keepDims: true })), total = sum(multiply(off, off), removed);
  const count = sizeOf(x.shape) / sizeOf(total.shape);
  if (!(Number.isFinite(correction) && correction < count)) {
    refuse("variance", `"correction" must be a number below the number of elements, ${count}`, correction);
  }
  return keepAxes("variance", divide(total, count - correction), { options, shape: x.shape, axes: removed });
}
