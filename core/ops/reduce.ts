/**
 * Reductions: maximum, mean, softmax; `broadcast.ts` has the sum.
 *
 * @module
 */

import { axisOf } from "../arguments.ts";
import { sizeOf } from "../spec.ts";
import { checkOperand, type Op, type Tensor } from "../tensor.ts";
import { divide, multiply, subtract } from "./arithmetic.ts";
import {
  batchReduce,
  expandReduced,
  inferReduce,
  keptShape,
  type ReduceAttrs,
  reduceAxes,
  reducedAxes,
  sum,
} from "./broadcast.ts";
import { equal } from "./comparison.ts";
import { exp } from "./functions.ts";
import { reshape } from "./movement.ts";

/** Takes the largest element along neighbouring axes; the planner fuses the elementwise operations that feed it. */
export const reduceMaxOp: Op<ReduceAttrs> = {
  name: "reduce",
  infer: inferReduce,
  batch: batchReduce,
  pullbacks: [({ inputs: [x], output, gradient, attrs: { axis, count } }) =>
    multiply(
      expandReduced(gradient, { shape: x.shape, axis, count }),
      equal(x, reshape(output, keptShape(x.shape, { axis, count }))),
    )],
};

/**
 * Mean over axes.
 *
 * @param x f32 tensor
 * @param axes Axes to remove, negative from the end; all when absent
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
export function mean(x: Tensor, axes?: number | readonly number[]): Tensor {
  const total = sum(x, reducedAxes("mean", x, axes));
  return divide(total, sizeOf(x.shape) / sizeOf(total.shape));
}

/**
 * Largest element over axes.
 *
 * @param x f32 tensor
 * @param axes Axes to remove, negative from the end; all when absent
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
export function max(x: Tensor, axes?: number | readonly number[]): Tensor {
  return reduceAxes(x, { op: reduceMaxOp, kind: "max", axes: reducedAxes("max", x, axes) });
}

/**
 * Softmax over an axis: `exp(x - max x) / sum exp(x - max x)`.
 *
 * @param x f32
 * @param axis The axis, negative from the end; the last when absent
 * @returns f32 of the same shape
 * @throws {ShapeError} When the axis does not exist
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, softmax, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, softmax(tensor([3, 3])))], [0.5, 0.5]);
 * ```
 */
export function softmax(x: Tensor, axis = -1): Tensor {
  checkOperand("softmax", x, "x");
  const along = axisOf("softmax", axis, x.shape), kept = x.shape.with(along, 1);
  const e = exp(subtract(x, reshape(max(x, along), kept)));
  return divide(e, reshape(sum(e, along), kept));
}
