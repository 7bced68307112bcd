/**
 * Elementwise functions of one tensor.
 *
 * @module
 */

import { tanhText } from "../../kernels/tanh.ts";
import { apply, type Op, type Tensor } from "../tensor.ts";
import { divide, multiply, subtract } from "./arithmetic.ts";
import { elementwise, lift, type Operand } from "./elementwise.ts";

const expOp: Op<null> = elementwise("exp", {
  text: ([a]) => `exp(${a})`,
  value: Math.exp,
  derivatives: [(_, y, g) => multiply(g, y)],
});

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
  return apply(expOp, [lift(x)], null);
}

const logOp: Op<null> = elementwise("log", {
  text: ([a]) => `log(${a})`,
  value: Math.log,
  derivatives: [([a], _, g) => divide(g, a)],
});

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
  return apply(logOp, [lift(x)], null);
}

/** The square root. */
export const sqrtOp: Op<null> = elementwise("sqrt", {
  text: ([a]) => `sqrt(${a})`,
  value: Math.sqrt,
  derivatives: [(_, y, g) => divide(multiply(g, 0.5), y)],
});

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
  return apply(sqrtOp, [lift(x)], null);
}

/** One over the square root. */
export const rsqrtOp: Op<null> = elementwise("rsqrt", {
  text: ([a]) => `inverseSqrt(${a})`,
  value: (a) => 1 / Math.sqrt(a),
  derivatives: [([a], y, g) => multiply(multiply(g, -0.5), divide(y, a))],
});

/**
 * `1 / sqrt(x)`.
 *
 * @param x Tensor or number
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { rsqrt } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertAlmostEquals((await read(gpu, rsqrt(tensor([4]))))[0], 0.5, 1e-6);
 * ```
 */
export function rsqrt(x: Operand): Tensor {
  return apply(rsqrtOp, [lift(x)], null);
}

const absOp: Op<null> = elementwise("abs", {
  text: ([a]) => `abs(${a})`,
  value: Math.abs,
  derivatives: [([a], _, g) => multiply(g, sign(a))],
});

/**
 * Absolute value; its gradient at 0 is 0.
 *
 * @param x Tensor or number
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { abs, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, abs(tensor([1, -2])))], [1, 2]);
 * ```
 */
export function abs(x: Operand): Tensor {
  return apply(absOp, [lift(x)], null);
}

const signOp: Op<null> = elementwise("sign", {
  text: ([a]) => `sign(${a})`,
  value: Math.sign,
  derivatives: ["flat"],
});

/**
 * -1, 0 or 1; no gradient flows through it.
 *
 * @param x Tensor or number
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { sign } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, sign(tensor([-2, 0, 3])))], [-1, 0, 1]);
 * ```
 */
export function sign(x: Operand): Tensor {
  return apply(signOp, [lift(x)], null);
}

const tanhOp: Op<null> = elementwise("tanh", {
  text: ([a], t) => tanhText(a, t),
  value: Math.tanh,
  derivatives: [(_, y, g) => multiply(g, subtract(1, multiply(y, y)))],
});

/**
 * Hyperbolic tangent, to a relative error of some 1e-7 near zero too.

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
  return apply(tanhOp, [lift(x)], null);
}

const sigmoidOp: Op<null> = elementwise("sigmoid", {
  text: ([a], t) => `${t}(1.0f) / (${t}(1.0f) + exp(-${a}))`,
  value: (a) => 1 / (1 + Math.exp(-a)),
  derivatives: [(_, y, g) => multiply(g, multiply(y, subtract(1, y)))],
});

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
  return apply(sigmoidOp, [lift(x)], null);
}
