/**
 * Makes elementwise operations: NumPy broadcasting, and gradients summed to the shapes of the inputs.
 *
 * @module
 */

import { fill } from "../sources.ts";
import { checkTensor, type ElementText, type Op, type Pullback, type Tensor } from "../tensor.ts";
import { broadcastShape, sumTo } from "./broadcast.ts";

/** A tensor, or a number that stands for a scalar. Integers are read as f32, exact below 2^24. */
export type Operand = Tensor | number;

/**
 * Converts a number to a tensor.
 *
 * @param x A tensor or a number
 * @returns The tensor, or a scalar of that value
 */
export function lift(x: Operand): Tensor {
  return typeof x === "number" ? fill(x) : x;
}

/**
 * Converts an argument of a function that is composed of others, so that an error names the function.
 *
 * @param op The function that was called
 * @param x What it got
 * @param name What it calls the argument
 * @returns The tensor, or a scalar of that value
 * @throws {InputError} When it is neither a number nor a tensor
 */
export function operandOf(op: string, x: Operand, name: string): Tensor {
  if (typeof x === "number") return fill(x);
  checkTensor(op, x, name);
  return x;
}

/** Builds the gradient of one input, in the shape of the output. */
export type Derivative = (inputs: readonly Tensor[], output: Tensor, gradient: Tensor) => Tensor;

/**
 * Defines an elementwise operation.
 *
 * @param name Its name, in errors and profiles
 * @param options `text`: its WGSL; `value`: the same in JavaScript, for constants; `derivatives`: one for each input, the
 * last serves all further inputs; `"flat"` and `null` as in the pullbacks of an op
 * @returns The op; its inputs broadcast
 */
export function elementwise(
  name: string,
  { text, value, derivatives }: {
    readonly text: ElementText;
    readonly value: (...args: number[]) => number;
    readonly derivatives: readonly (Derivative | "flat" | null)[];
  },
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

/**
 * Defines an elementwise function of one tensor that is composed of others, with a derivative of its own.
 *
 * @param name Its name, in errors
 * @param options `definition`: the composition; `derivative`: the gradient, which the composition does not give as exactly
 * @returns The op
 */
export function composed(
  name: string,
  { definition, derivative }: {
    readonly definition: (x: Tensor) => Tensor;
    readonly derivative: Derivative;
  },
): Op<null> {
  return {
    name,
    infer: ([{ shape }]) => [{ shape, dtype: "f32" }],
    pullbacks: [({ inputs, output, gradient }) => derivative(inputs, output, gradient)],
    definition: ([x]) => [definition(x)],
  };
}
