/**
 * Elementwise comparison and selection, with NumPy broadcasting.
 *
 * @module
 */

import { checkOptions, refuse } from "../arguments.ts";
import { apply, type Op, type Tensor } from "../tensor.ts";
import { broadcastShape } from "./broadcast.ts";
import { elementwise, lift, type Operand, operandOf } from "./elementwise.ts";

const lessOp: Op<null> = elementwise("less", {
  text: ([a, b], t) => `select(${t}(), ${t}(1.0f), ${a} < ${b})`,
  value: (a, b) => +(a < b),
  derivatives: ["flat"],
});

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
  return apply(lessOp, [lift(a), lift(b)], null);
}

const equalOp: Op<null> = elementwise("equal", {
  text: ([a, b], t) => `select(${t}(), ${t}(1.0f), ${a} == ${b})`,
  value: (a, b) => +(a === b),
  derivatives: ["flat"],
});

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
  return apply(equalOp, [lift(a), lift(b)], null);
}

const whereOp: Op<null> = elementwise("where", {
  text: ([c, a, b], t) => `select(${b}, ${a}, ${c} != ${t}())`,
  value: (c, a, b) => c !== 0 ? a : b,
  derivatives: ["flat", ([c], _, g) => where(c, g, 0), ([c], _, g) => where(c, 0, g)],
});

/**
 * Selects elements of two tensors by a condition.
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
  return apply(whereOp, [lift(condition), lift(a), lift(b)], null);
}

const maximumOp: Op<null> = elementwise("maximum", {
  text: ([a, b]) => `max(${a}, ${b})`,
  value: Math.max,
  derivatives: [([a, b], _, g) => where(less(a, b), 0, g), ([a, b], _, g) => where(less(a, b), g, 0)],
});

/**
 * Elementwise maximum of two tensors. At a tie the gradient goes to the first.
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
  return apply(maximumOp, [lift(a), lift(b)], null);
}

const minimumOp: Op<null> = elementwise("minimum", {
  text: ([a, b]) => `min(${a}, ${b})`,
  value: Math.min,
  derivatives: [([a, b], _, g) => where(less(b, a), 0, g), ([a, b], _, g) => where(less(b, a), g, 0)],
});

/**
 * Elementwise minimum of two tensors. At a tie the gradient goes to the first.
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
  return apply(minimumOp, [lift(a), lift(b)], null);
}

/**
 * Limits elements to a range. The gradient of an element outside is 0.
 *
 * @param x Tensor or number
 * @param range `min` and `max`, each a tensor or a number; at least one of them. Shapes broadcast
 * @returns f32 of the broadcast shape
 * @throws {InputError} When neither is given
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { clamp, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, clamp(tensor([-3, 0.5, 4]), { min: -1, max: 1 }))], [-1, 0.5, 1]);
 * ```
 */
export function clamp(x: Operand, range: { readonly min?: Operand; readonly max?: Operand }): Tensor {
  checkOptions("clamp", range, "its range must be a record of min and max");
  const { min, max } = range;
  if (min === undefined && max === undefined) refuse("clamp", "it takes min or max", range);
  const value = operandOf("clamp", x, "x");
  const low = min === undefined ? [] : [operandOf("clamp", min, "min")];
  const high = max === undefined ? [] : [operandOf("clamp", max, "max")];
  broadcastShape("clamp", [value, ...low, ...high].map(({ shape }) => shape));
  return high.reduce(minimum, low.reduce(maximum, value));
}
