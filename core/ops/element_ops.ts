/**
 * The records of the elementwise operations: name, WGSL, value and derivatives.
 *
 * @module
 */

import { ShapeError } from "../errors.ts";
import { type ElementText, type Op, type Pullback, sameShape, type Tensor } from "../tensor.ts";
import { divide, less, multiply, negate, subtract, where } from "./elementwise.ts";
import { sign } from "./functions.ts";
import { sum } from "./reduce.ts";
import { reshape } from "./shape.ts";

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
  const axes = gradient.shape.flatMap((size, d) =>
    d < lead || (shape[d - lead] === 1 && size !== 1) ? [d] : []
  );
  return reshape(sum(gradient, axes), shape);
}

type Derivative = (inputs: readonly Tensor[], output: Tensor, gradient: Tensor) => Tensor;

function define(
  name: string,
  text: ElementText,
  value: (...args: number[]) => number,
  derivatives: readonly (Derivative | "flat" | null)[],
): Op<null> {
  const pullbacks = derivatives.map((derivative): Pullback<null> | "flat" | null =>
    typeof derivative !== "function"
      ? derivative
      : (({ inputs, output, gradient, index }) =>
        sumTo(derivative(inputs, output, gradient), inputs[index].shape))
  );
  return {
    name,
    infer: (inputs) => [{ shape: broadcastShape(name, inputs.map((i) => i.shape)), dtype: "f32" }],
    pullbacks,
    element: { text, value },
  };
}

/** Repeats along new or size-1 axes. */
export const broadcastOp: Op<{ shape: readonly number[] }> = {
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

/** A row for each operation; a derivative for each input. */
export const ops = {
  add: define("add", ([a, b]) => `${a} + ${b}`, (a, b) => a + b, [(_, __, g) => g, (_, __, g) => g]),
  subtract: define("subtract", ([a, b]) => `${a} - ${b}`, (a, b) => a - b, [
    (_, __, g) => g,
    (_, __, g) => negate(g),
  ]),
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
  less: define("less", ([a, b], t) => `select(${t}(), ${t}(1.0f), ${a} < ${b})`, (a, b) => +(a < b), [
    "flat",
  ]),
  equal: define("equal", ([a, b], t) => `select(${t}(), ${t}(1.0f), ${a} == ${b})`, (a, b) => +(a === b), [
    "flat",
  ]),
  where: define(
    "where",
    ([c, a, b], t) => `select(${b}, ${a}, ${c} != ${t}())`,
    (c, a, b) => c !== 0 ? a : b,
    [
      "flat",
      ([c], _, g) => where(c, g, 0),
      ([c], _, g) => where(c, 0, g),
    ],
  ),
  negate: define("negate", ([a]) => `-${a}`, (a) => -a, [(_, __, g) => negate(g)]),
  exp: define("exp", ([a]) => `exp(${a})`, Math.exp, [(_, y, g) => multiply(g, y)]),
  log: define("log", ([a]) => `log(${a})`, Math.log, [([a], _, g) => divide(g, a)]),
  sqrt: define("sqrt", ([a]) => `sqrt(${a})`, Math.sqrt, [(_, y, g) => divide(multiply(g, 0.5), y)]),
  rsqrt: define("rsqrt", ([a]) => `inverseSqrt(${a})`, (a) => 1 / Math.sqrt(a), [
    ([a], y, g) => multiply(multiply(g, -0.5), divide(y, a)),
  ]),
  abs: define("abs", ([a]) => `abs(${a})`, Math.abs, [([a], _, g) => multiply(g, sign(a))]),
  sign: define("sign", ([a]) => `sign(${a})`, Math.sign, ["flat"]),
  tanh: define("tanh", ([a], t) => `tanh(clamp(${a}, ${t}(-15.0f), ${t}(15.0f)))`, Math.tanh, [
    (_, y, g) => multiply(g, subtract(1, multiply(y, y))),
  ]),
  sigmoid: define(
    "sigmoid",
    ([a], t) => `${t}(1.0f) / (${t}(1.0f) + exp(-${a}))`,
    (a) => 1 / (1 + Math.exp(-a)),
    [
      (_, y, g) => multiply(g, multiply(y, subtract(1, y))),
    ],
  ),
  cast: define("cast", ([a]) => a, (a) => a, [null]),
};
