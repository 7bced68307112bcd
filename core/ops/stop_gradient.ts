/**
 * A value as a constant.
 *
 * @module
 */

import { apply, checkTensor, type Op, type Tensor } from "../tensor.ts";

/** The record of {@link stopGradient}: the planner runs no kernel for it. */
export const stopGradientOp: Op<null> = {
  name: "stopGradient",
  infer: ([{ shape, dtype }]) => [{ shape, dtype }],
  pullbacks: ["flat"],
  element: { text: ([a]) => a, value: (a) => a },
};

/**
 * The same values, through which no gradient flows.
 *
 * @param x f32; a tensor of another type has no gradient anyway
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { grad, multiply, openGpu, read, sum, tensor } from "@firn/train";
 * import { stopGradient } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const x = tensor([1, 2]);
 * const [slope] = grad(sum(multiply(x, stopGradient(x))), [x]);
 * assertEquals([...await read(gpu, slope)], [1, 2]);
 * ```
 */
export function stopGradient(x: Tensor): Tensor {
  checkTensor("stopGradient", x, "x");
  return x.dtype === "f32" ? apply(stopGradientOp, [x], null) : x;
}
