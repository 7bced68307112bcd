/**
 * Elementwise operations with NumPy broadcasting. The planner fuses neighbours into one kernel.
 *
 * @module
 */

import { ShapeError } from "../errors.ts";
import { apply, type ElementText, fill, type Op, type Pullback, sameShape, type Tensor } from "../tensor.ts";
import { sum } from "./reduce.ts";
import { reshape } from "./shape.ts";

/** A tensor, or a number that stands for a scalar. */
export type Operand = Tensor | number;

/** The shape that NumPy broadcasting gives. */
function broadcastShape(name: string, shapes: readonly (readonly number[])[]): number[] {
  const rank = Math.max(...shapes.map((s) => s.length));
  return Array.from({ length: rank }, (_, d) => {
    let size = 1;
    for (const shape of shapes) {
      const own = shape[d - rank + shape.length] ?? 1;
      if (own === 1) continue;
      if (size !== 1 && size !== own) throw new ShapeError(name, "shapes must broadcast", shapes);
      size = own;
    }
    return size;
  });
}

/** Sums a gradient down to the shape of the input that was broadcast. */
function sumTo(gradient: Tensor, shape: readonly number[]): Tensor {
  if (sameShape(gradient.shape, shape)) return gradient;
  const lead = gradient.shape.length - shape.length;
  const axes = gradient.shape.flatMap((size, d) => d < lead || (shape[d - lead] === 1 && size !== 1) ? [d] : []);
  return reshape(sum(gradient, axes), shape);
}

type Derivative = (inputs: readonly Tensor[], output: Tensor, gradient: Tensor) => Tensor;

function define(
  name: string,
  text: ElementText,
  value: (...args: number[]) => number,
  derivatives: readonly (Derivative | null)[],
): Op<null> {
  const pullbacks = derivatives.map((derivative): Pullback<null> | null =>
    derivative && (({ inputs, output, gradient, index }) =>
      sumTo(derivative(inputs, output, gradient), inputs[index].shape))
  );
  return {
    name,
    infer: (inputs) => [{ shape: broadcastShape(name, inputs.map((i) => i.shape)), dtype: "f32" }],
    pullbacks,
    element: { text, value },
  };
}

const broadcastOp: Op<{ shape: readonly number[] }> = {
  name: "broadcast",
  infer([input], { shape }) {
    if (!sameShape(broadcastShape("broadcast", [input.shape, shape]), shape)) {
      throw new ShapeError("broadcast", "the input must broadcast to the shape", [input.shape, shape]);
    }
    return [{ shape, dtype: "f32" }];
  },
  pullbacks: [({ inputs, gradient }) => sumTo(gradient, inputs[0].shape)],
  element: { text: ([a]) => a, value: (a) => a },
};

const ops = {
  add: define("add", ([a, b]) => `${a} + ${b}`, (a, b) => a + b, [(_, __, g) => g, (_, __, g) => g]),
  subtract: define("subtract", ([a, b]) => `${a} - ${b}`, (a, b) => a - b, [(_, __, g) => g, (_, __, g) => negate(g)]),
  multiply: define("multiply", ([a, b]) => `${a} * ${b}`, (a, b) => a * b, [
    ([, b], _, g) => multiply(g, b),
    ([a], _, g) => multiply(g, a),
  ]),
  divide: define("divide", ([a, b]) => `${a} / ${b}`, (a, b) => a / b, [
    ([, b], _, g) => divide(g, b),
    ([, b], y, g) => negate(divide(multiply(g, y), b)),
  ]),
  maximum: define("maximum", ([a, b]) => `max(${a}, ${b})`, Math.max, [
    ([a, b], _, g) => where(less(a, b), 0, g),
    ([a, b], _, g) => where(less(a, b), g, 0),
  ]),
  minimum: define("minimum", ([a, b]) => `min(${a}, ${b})`, Math.min, [
    ([a, b], _, g) => where(less(b, a), 0, g),
    ([a, b], _, g) => where(less(b, a), g, 0),
  ]),
  less: define("less", ([a, b], t) => `select(${t}(), ${t}(1.0f), ${a} < ${b})`, (a, b) => +(a < b), [null, null]),
  equal: define("equal", ([a, b], t) => `select(${t}(), ${t}(1.0f), ${a} == ${b})`, (a, b) => +(a === b), [null, null]),
  where: define("where", ([c, a, b], t) => `select(${b}, ${a}, ${c} != ${t}())`, (c, a, b) => c !== 0 ? a : b, [
    null,
    ([c], _, g) => where(c, g, 0),
    ([c], _, g) => where(c, 0, g),
  ]),
  negate: define("negate", ([a]) => `-${a}`, (a) => -a, [(_, __, g) => negate(g)]),
  exp: define("exp", ([a]) => `exp(${a})`, Math.exp, [(_, y, g) => multiply(g, y)]),
  log: define("log", ([a]) => `log(${a})`, Math.log, [([a], _, g) => divide(g, a)]),
  sqrt: define("sqrt", ([a]) => `sqrt(${a})`, Math.sqrt, [(_, y, g) => divide(multiply(g, 0.5), y)]),
  rsqrt: define("rsqrt", ([a]) => `inverseSqrt(${a})`, (a) => 1 / Math.sqrt(a), [
    ([a], y, g) => multiply(multiply(g, -0.5), divide(y, a)),
  ]),
  abs: define("abs", ([a]) => `abs(${a})`, Math.abs, [([a], _, g) => multiply(g, sign(a))]),
  sign: define("sign", ([a]) => `sign(${a})`, Math.sign, [null]),
  tanh: define("tanh", ([a], t) => `tanh(clamp(${a}, ${t}(-15.0f), ${t}(15.0f)))`, Math.tanh, [
    (_, y, g) => multiply(g, subtract(1, multiply(y, y))),
  ]),
  sigmoid: define("sigmoid", ([a], t) => `${t}(1.0f) / (${t}(1.0f) + exp(-${a}))`, (a) => 1 / (1 + Math.exp(-a)), [
    (_, y, g) => multiply(g, multiply(y, subtract(1, y))),
  ]),
  cast: define("cast", ([a]) => a, (a) => a, [null]),
};

const lift = (x: Operand): Tensor => typeof x === "number" ? fill(x) : x;

/** Sum of two tensors; shapes broadcast, f32. */
export function add(a: Operand, b: Operand): Tensor {
  return apply(ops.add, [lift(a), lift(b)], null);
}

/** Difference of two tensors; shapes broadcast, f32. */
export function subtract(a: Operand, b: Operand): Tensor {
  return apply(ops.subtract, [lift(a), lift(b)], null);
}

/** Elementwise product of two tensors; shapes broadcast, f32. */
export function multiply(a: Operand, b: Operand): Tensor {
  return apply(ops.multiply, [lift(a), lift(b)], null);
}

/** Elementwise quotient of two tensors; shapes broadcast, f32. */
export function divide(a: Operand, b: Operand): Tensor {
  return apply(ops.divide, [lift(a), lift(b)], null);
}

/** Larger of two tensors at every place; shapes broadcast, f32. At a tie the gradient goes to the first. */
export function maximum(a: Operand, b: Operand): Tensor {
  return apply(ops.maximum, [lift(a), lift(b)], null);
}

/** Smaller of two tensors at every place; shapes broadcast, f32. At a tie the gradient goes to the first. */
export function minimum(a: Operand, b: Operand): Tensor {
  return apply(ops.minimum, [lift(a), lift(b)], null);
}

/** 1 where `a < b`, else 0; shapes broadcast, f32. */
export function less(a: Operand, b: Operand): Tensor {
  return apply(ops.less, [lift(a), lift(b)], null);
}

/** 1 where `a == b`, else 0; shapes broadcast, f32. */
export function equal(a: Operand, b: Operand): Tensor {
  return apply(ops.equal, [lift(a), lift(b)], null);
}

/** `a` where `condition` is not 0, else `b`; shapes broadcast, f32. */
export function where(condition: Operand, a: Operand, b: Operand): Tensor {
  return apply(ops.where, [lift(condition), lift(a), lift(b)], null);
}

/** `-x`, f32. */
export function negate(x: Operand): Tensor {
  return apply(ops.negate, [lift(x)], null);
}

/** `e^x`, f32. */
export function exp(x: Operand): Tensor {
  return apply(ops.exp, [lift(x)], null);
}

/** Natural logarithm, f32. */
export function log(x: Operand): Tensor {
  return apply(ops.log, [lift(x)], null);
}

/** Square root, f32. */
export function sqrt(x: Operand): Tensor {
  return apply(ops.sqrt, [lift(x)], null);
}

/** `1 / sqrt(x)`, f32. */
export function rsqrt(x: Operand): Tensor {
  return apply(ops.rsqrt, [lift(x)], null);
}

/** Absolute value, f32. */
export function abs(x: Operand): Tensor {
  return apply(ops.abs, [lift(x)], null);
}

/** -1, 0 or 1, f32. */
export function sign(x: Operand): Tensor {
  return apply(ops.sign, [lift(x)], null);
}

/** Hyperbolic tangent, f32. */
export function tanh(x: Operand): Tensor {
  return apply(ops.tanh, [lift(x)], null);
}

/** Logistic function `1 / (1 + e^-x)`, f32. */
export function sigmoid(x: Operand): Tensor {
  return apply(ops.sigmoid, [lift(x)], null);
}

/** Integers as f32 (exact below 2^24). */
export function cast(x: Tensor): Tensor {
  return x.dtype === "f32" ? x : apply(ops.cast, [x], null);
}

/**
 * Repeats a tensor along new or size-1 axes.
 *
 * @param x The tensor, f32
 * @param shape The shape to reach
 * @returns `x` seen in that shape
 * @throws {ShapeError} When `x` does not broadcast to it
 */
export function broadcast(x: Tensor, shape: readonly number[]): Tensor {
  return apply(broadcastOp, [x], { shape });
}

/** SiLU (swish): `x * sigmoid(x)`, f32. Source: Elfwing et al., arXiv 1702.03118. */
export function silu(x: Tensor): Tensor {
  return multiply(x, sigmoid(x));
}

/** Rectifier: `max(x, 0)`, f32. */
export function relu(x: Tensor): Tensor {
  return maximum(x, 0);
}

/** GELU in its tanh form, f32. Source: Hendrycks and Gimpel, arXiv 1606.08415. */
export function gelu(x: Tensor): Tensor {
  const cubic = add(x, multiply(0.044715, multiply(x, multiply(x, x))));
  return multiply(multiply(0.5, x), add(1, tanh(multiply(Math.sqrt(2 / Math.PI), cubic))));
}
