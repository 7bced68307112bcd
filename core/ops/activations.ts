/**
 * Activation functions, composed of elementwise operations.
 *
 * @module
 */

import { checkOperand, type Tensor } from "../tensor.ts";
import { add, multiply } from "./arithmetic.ts";
import { maximum } from "./comparison.ts";
import { sigmoid } from "./functions.ts";

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
  checkOperand("silu", x, "x");
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
  checkOperand("relu", x, "x");
  return maximum(x, 0);
}

/**
 * GELU in its tanh approximation, as in GPT-2.
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
  checkOperand("gelu", x, "x");
  const cubic = add(x, multiply(0.044715, multiply(x, multiply(x, x))));
  // (1 + tanh(u)) / 2 is the logistic function of 2u, which stays precise far below zero.
  return multiply(x, sigmoid(multiply(2 * Math.sqrt(2 / Math.PI), cubic)));
}
