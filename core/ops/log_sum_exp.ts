/**
 * Logarithms of sums of exponentials, without overflow.
 *
 * @module
 */

import { axisOf } from "../arguments.ts";
import { checkTensor, type Tensor } from "../tensor.ts";
import { add, subtract } from "./arithmetic.ts";
import { keepAxes, reducedAxes, type ReduceOptions, sum } from "./broadcast.ts";
import { exp, log } from "./functions.ts";
import { reshape } from "./movement.ts";
import { max } from "./reduce.ts";
import { stopGradient } from "./stop_gradient.ts";

/**
 * `log(sum(exp(x)))` over axes.
 *
 * @param x f32 tensor
 * @param axes Axes to remove, negative from the end; all when absent
 * @param options Whether they stay with size 1
 * @returns f32, without those axes
 * @throws {ShapeError} When an axis does not exist or is named twice
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { logSumExp } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertAlmostEquals((await read(gpu, logSumExp(tensor([1000, 1000]))))[0], 1000 + Math.LN2, 1e-3);
 * ```
 */
export function logSumExp(
  x: Tensor,
  axes?: number | readonly number[],
  options: ReduceOptions = {},
): Tensor {
  const removed = reducedAxes("logSumExp", x, axes);
  const top = stopGradient(max(x, removed, { keepDims: true }));
  const total = log(sum(exp(subtract(x, top)), removed));
  const result = add(reshape(top, total.shape), total);
  return keepAxes("logSumExp", result, { options, shape: x.shape, axes: removed });
}

/**
 * Logarithm of the softmax over an axis: `x - logSumExp(x)`.
 *
 * @param x f32
 * @param axis The axis, negative from the end; the last when absent
 * @returns f32 of the same shape
 * @throws {ShapeError} When the axis does not exist
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { logSoftmax } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertAlmostEquals((await read(gpu, logSoftmax(tensor([3, 3]))))[0], -Math.LN2, 1e-6);
 * ```
 */
export function logSoftmax(x: Tensor, axis = -1): Tensor {
  checkTensor("logSoftmax", x, "x");
  return subtract(x, logSumExp(x, axisOf("logSoftmax", axis, x.shape), { keepDims: true }));
}
