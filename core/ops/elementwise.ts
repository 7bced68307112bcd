/**
 * Elementwise operations with NumPy broadcasting. The planner fuses neighbours into one kernel.
 *
 * @module
 */

import { apply, fill, type Tensor } from "../tensor.ts";
import { broadcastOp, ops } from "./element_ops.ts";
import { sigmoid } from "./functions.ts";

/** A tensor, or a number that stands for a scalar. Integers are read as f32, exact below 2^24. */
export type Operand = Tensor | number;

/**
 * A number as a tensor.
 *
 * @param x A tensor or a number
 * @returns The tensor, or a scalar of that value
 */
export function lift(x: Operand): Tensor {
  return typeof x === "number" ? fill(x) : x;
}

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
  return apply(ops.add, [lift(a), lift(b)], null);
}

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
  return apply(ops.subtract, [lift(a), lift(b)], null);
}

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
  return apply(ops.multiply, [lift(a), lift(b)], null);
}

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
  return apply(ops.divide, [lift(a), lift(b)], null);
}

/**
 * Larger of two tensors at every place. At a tie the gradient goes to the first.
 *
 * @param a Tensor or number
 * @param b Tensor or number; shapes broadcast
 * @returns f32 of the broadcast shape
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { maximum, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, maximum(tensor([1, 5]), 3))], [3, 5]);
 * ```
 */
export function maximum(a: Operand, b: Operand): Tensor {
  return apply(ops.maximum, [lift(a), lift(b)], null);
}

/**
 * Smaller of two tensors at every place. At a tie the gradient goes to the first.
 *
 * @param a Tensor or number
 * @param b Tensor or number; shapes broadcast
 * @returns f32 of the broadcast shape
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { minimum, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, minimum(tensor([1, 5]), 3))], [1, 3]);
 * ```
 */
export function minimum(a: Operand, b: Operand): Tensor {
  return apply(ops.minimum, [lift(a), lift(b)], null);
}

/**
 * 1 where `a < b`, else 0; no gradient flows through it.
 *
 * @param a Tensor or number
 * @param b Tensor or number; shapes broadcast
 * @returns f32 of the broadcast shape
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { less, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, less(tensor([1, 5]), 3))], [1, 0]);
 * ```
 */
export function less(a: Operand, b: Operand): Tensor {
  return apply(ops.less, [lift(a), lift(b)], null);
}

/**
 * 1 where `a == b`, else 0; no gradient flows through it.
 *
 * @param a Tensor or number
 * @param b Tensor or number; shapes broadcast
 * @returns f32 of the broadcast shape
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { equal, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, equal(tensor([1, 3]), 3))], [0, 1]);
 * ```
 */
export function equal(a: Operand, b: Operand): Tensor {
  return apply(ops.equal, [lift(a), lift(b)], null);
}

/**
 * Chooses between two tensors at every place.
 *
 * @param condition Tensor or number; no gradient flows through it
 * @param a Result where the condition is not 0
 * @param b Result elsewhere; shapes broadcast
 * @returns f32 of the broadcast shape
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor, where } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, where(tensor([1, 0]), 5, tensor([6, 7])))], [5, 7]);
 * ```
 */
export function where(condition: Operand, a: Operand, b: Operand): Tensor {
  return apply(ops.where, [lift(condition), lift(a), lift(b)], null);
}

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
  return apply(ops.negate, [lift(x)], null);
}

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
  return apply(ops.abs, [lift(x)], null);
}

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
  return x.dtype === "f32" ? x : apply(ops.cast, [x], null);
}

/**
 * Repeats a tensor along new or size-1 axes.
 *
 * @param x f32
 * @param shape The shape to reach
 * @returns f32 of that shape
 * @throws {ShapeError} When `x` does not broadcast to it
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { broadcast, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, broadcast(tensor([1, 2], [2, 1]), [2, 3]))], [1, 1, 1, 2, 2, 2]);
 * ```
 */
export function broadcast(x: Tensor, shape: readonly number[]): Tensor {
  return apply(broadcastOp, [x], { shape });
}

/**
 * SiLU (swish): `x * sigmoid(x)`.
 *
 * Source: Elfwing et al., arXiv 1702.03118.
 *
 * @param x f32
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, silu, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertAlmostEquals((await read(gpu, silu(tensor([2]))))[0], 2 / (1 + Math.exp(-2)), 1e-6);
 * ```
 */
export function silu(x: Tensor): Tensor {
  return multiply(x, sigmoid(x));
}

/**
 * Rectifier: `max(x, 0)`.
 *
 * @param x f32
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, relu, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, relu(tensor([2, -3])))], [2, 0]);
 * ```
 */
export function relu(x: Tensor): Tensor {
  return maximum(x, 0);
}

/**
 * GELU in its tanh form, as GPT-2 has it.
 *
 * Source: Hendrycks and Gimpel, arXiv 1606.08415.
 *
 * @param x f32
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { gelu, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertAlmostEquals((await read(gpu, gelu(tensor([1]))))[0], 0.841192, 1e-6);
 * ```
 */
export function gelu(x: Tensor): Tensor {
  const cubic = add(x, multiply(0.044715, multiply(x, multiply(x, x))));
  // (1 + tanh(u)) / 2 is the logistic function of 2u, which loses no digits far below zero.
  return multiply(x, sigmoid(multiply(2 * Math.sqrt(2 / Math.PI), cubic)));
}
