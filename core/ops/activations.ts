/**
 * Activation functions, composed of elementwise operations.
 *
 * @module
 */

import { checkFlag, checkNumber, checkOptions } from "../arguments.ts";
import { apply, checkTensor, type Tensor } from "../tensor.ts";
import { add, multiply } from "./arithmetic.ts";
import { less, maximum, where } from "./comparison.ts";
import { sigmoid } from "./functions.ts";
import { normalCdfOp } from "./special.ts";

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
 * import { openGpu, read, tensor } from "@firn/train";
 * import { silu } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertAlmostEquals((await read(gpu, silu(tensor([2]))))[0], 2 / (1 + Math.exp(-2)), 1e-6);
 * ```
 */
export function silu(x: Tensor): Tensor {
  checkTensor("silu", x, "x");
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
 * import { openGpu, read, tensor } from "@firn/train";
 * import { relu } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, relu(tensor([2, -3])))], [2, 0]);
 * ```
 */
export function relu(x: Tensor): Tensor {
  checkTensor("relu", x, "x");
  return maximum(x, 0);
}

/**
 * GELU, `x` times the probability that a normal variable is below `x`: in its tanh approximation, as in GPT-2, or exact.
 *
 * Source: Hendrycks and Gimpel, arXiv 1606.08415.
 *
 * @param x f32
 * @param options `approximate`: whether to use tanh; true when absent, as in JAX. `false` is `nn.GELU()` of PyTorch
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { gelu } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertAlmostEquals((await read(gpu, gelu(tensor([1]))))[0], 0.841192, 1e-6);
 * assertAlmostEquals((await read(gpu, gelu(tensor([1]), { approximate: false })))[0], 0.841345, 1e-6);
 * ```
 */
export function gelu(x: Tensor, options: { readonly approximate?: boolean } = {}): Tensor {
  checkTensor("gelu", x, "x");
  checkOptions("gelu", options);
  const { approximate = true } = options;
  checkFlag("gelu", "approximate", approximate);
  if (!approximate) return multiply(x, apply(normalCdfOp, [x], null));
  const cubic = add(x, multiply(0.044715, multiply(x, multiply(x, x))));
  // (1 + tanh(u)) / 2 is the logistic function of 2u, which stays precise far below zero.
  return multiply(x, sigmoid(multiply(2 * Math.sqrt(2 / Math.PI), cubic)));
}

/**
 * Leaky rectifier: `x` where it is positive, else `negativeSlope * x`.
 *
 * @param x f32
 * @param options `negativeSlope`; 0.01 when absent
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { leakyRelu } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, leakyRelu(tensor([2, -4]), { negativeSlope: 0.25 }))], [2, -1]);
 * ```
 */
export function leakyRelu(x: Tensor, options: { readonly negativeSlope?: number } = {}): Tensor {
  checkTensor("leakyRelu", x, "x");
  checkOptions("leakyRelu", options);
  const { negativeSlope = 0.01 } = options;
  checkNumber("leakyRelu", "negativeSlope", negativeSlope);
  return where(less(x, 0), multiply(negativeSlope, x), x);
}
