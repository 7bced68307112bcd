/**
 * Arithmetic with NumPy broadcasting. The planner fuses neighbours into one kernel.
 *
 * @module
 */

import { apply, checkTensor, type Op, type Tensor } from "../tensor.ts";
import { elementwise, lift, type Operand } from "./elementwise.ts";

/** The sum of two tensors. */
export const addOp: Op<null> = elementwise("add", {
  text: ([a, b]) => `${a} + ${b}`,
  value: (a, b) => a + b,
  derivatives: [(_, __, g) => g],
});

/**
 * Sum of two tensors.
 *
 * @param a Tensor or number
 * @param b Tensor or number; shapes broadcast
 * @returns f32 of the broadcast shape
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { add, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, add(tensor([1, 2]), 3))], [4, 5]);
 * ```
 */
export function add(a: Operand, b: Operand): Tensor {
  return apply(addOp, [lift(a), lift(b)], null);
}

/** The difference of two tensors. */
export const subtractOp: Op<null> = elementwise("subtract", {
  text: ([a, b]) => `${a} - ${b}`,
  value: (a, b) => a - b,
  derivatives: [(_, __, g) => g, (_, __, g) => negate(g)],
});

/**
 * Difference of two tensors.
 *
 * @param a Tensor or number
 * @param b Tensor or number; shapes broadcast
 * @returns f32 of the broadcast shape
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, subtract, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, subtract(tensor([1, 2]), 3))], [-2, -1]);
 * ```
 */
export function subtract(a: Operand, b: Operand): Tensor {
  return apply(subtractOp, [lift(a), lift(b)], null);
}

/** The product of two tensors, element by element. */
export const multiplyOp: Op<null> = elementwise("multiply", {
  text: ([a, b]) => `${a} * ${b}`,
  value: (a, b) => a * b,
  derivatives: [([, b], _, g) => multiply(g, b), ([a], _, g) => multiply(g, a)],
});

/**
 * Product of two tensors, element by element.
 *
 * @param a Tensor or number
 * @param b Tensor or number; shapes broadcast
 * @returns f32 of the broadcast shape
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { multiply, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, multiply(tensor([1, 2]), tensor([3, 4])))], [3, 8]);
 * ```
 */
export function multiply(a: Operand, b: Operand): Tensor {
  return apply(multiplyOp, [lift(a), lift(b)], null);
}

/** The quotient of two tensors. */
export const divideOp: Op<null> = elementwise("divide", {
  text: ([a, b]) => `${a} / ${b}`,
  value: (a, b) => a / b,
  derivatives: [([, b], _, g) => divide(g, b), ([, b], y, g) => negate(divide(multiply(g, y), b))],
});

/**
 * Quotient of two tensors.
 *
 * @param a Tensor or number
 * @param b Tensor or number; shapes broadcast
 * @returns f32 of the broadcast shape
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { divide, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, divide(tensor([1, 2]), 4))], [0.25, 0.5]);
 * ```
 */
export function divide(a: Operand, b: Operand): Tensor {
  return apply(divideOp, [lift(a), lift(b)], null);
}

/** A tensor with the other sign. */
export const negateOp: Op<null> = elementwise("negate", {
  text: ([a]) => `-${a}`,
  value: (a) => -a,
  derivatives: [(_, __, g) => negate(g)],
});

/**
 * `-x`.
 *
 * @param x Tensor or number
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { negate, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, negate(tensor([1, -2])))], [-1, 2]);
 * ```
 */
export function negate(x: Operand): Tensor {
  return apply(negateOp, [lift(x)], null);
}

const castOp: Op<null> = elementwise("cast", { text: ([a]) => a, value: (a) => a, derivatives: [null] });

/**
 * Integers as f32, exact below 2^24.
 *
 * @param x Tensor of any dtype
 * @returns f32 of the same shape; `x` itself when it is f32
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { cast, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, cast(tensor(new Int32Array([1, -2]))))], [1, -2]);
 * ```
 */
export function cast(x: Tensor): Tensor {
  checkTensor("cast", x, "x");
  return x.dtype === "f32" ? x : apply(castOp, [x], null);
}
