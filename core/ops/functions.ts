/**
 * Functions of one number, applied to every element.
 *
 * @module
 */

import { apply, type Tensor } from "../tensor.ts";
import { ops } from "./element_ops.ts";
import { lift, type Operand } from "./elementwise.ts";

/**
 * `e^x`.
 *
 * @param x Tensor or number
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { exp, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertAlmostEquals((await read(gpu, exp(tensor([1]))))[0], Math.E, 1e-6);
 * ```
 */
export function exp(x: Operand): Tensor {
  return apply(ops.exp, [lift(x)], null);
}

/**
 * Natural logarithm.
 *
 * @param x Tensor or number
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { log, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertAlmostEquals((await read(gpu, log(tensor([2]))))[0], Math.LN2, 1e-6);
 * ```
 */
export function log(x: Operand): Tensor {
  return apply(ops.log, [lift(x)], null);
}

/**
 * Square root.
 *
 * @param x Tensor or number
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, sqrt, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertAlmostEquals((await read(gpu, sqrt(tensor([4]))))[0], 2, 1e-6);
 * ```
 */
export function sqrt(x: Operand): Tensor {
  return apply(ops.sqrt, [lift(x)], null);
}

/**
 * `1 / sqrt(x)`.
 *
 * @param x Tensor or number
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, rsqrt, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertAlmostEquals((await read(gpu, rsqrt(tensor([4]))))[0], 0.5, 1e-6);
 * ```
 */
export function rsqrt(x: Operand): Tensor {
  return apply(ops.rsqrt, [lift(x)], null);
}

/**
 * -1, 0 or 1; no gradient flows through it.
 *
 * @param x Tensor or number
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, sign, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, sign(tensor([-2, 0, 3])))], [-1, 0, 1]);
 * ```
 */
export function sign(x: Operand): Tensor {
  return apply(ops.sign, [lift(x)], null);
}

/**
 * Hyperbolic tangent.
 *
 * @param x Tensor or number
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tanh, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertAlmostEquals((await read(gpu, tanh(tensor([1]))))[0], Math.tanh(1), 1e-6);
 * ```
 */
export function tanh(x: Operand): Tensor {
  return apply(ops.tanh, [lift(x)], null);
}

/**
 * Logistic function `1 / (1 + e^-x)`.
 *
 * @param x Tensor or number
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, sigmoid, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertAlmostEquals((await read(gpu, sigmoid(tensor([0]))))[0], 0.5, 1e-6);
 * ```
 */
export function sigmoid(x: Operand): Tensor {
  return apply(ops.sigmoid, [lift(x)], null);
}
