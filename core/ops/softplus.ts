/**
 * A smooth form of relu.
 *
 * @module
 */

import { apply, checkTensor, type Op, type Tensor } from "../tensor.ts";
import { multiply } from "./arithmetic.ts";
import { composed, elementwise } from "./elementwise.ts";
import { sigmoid } from "./functions.ts";
import { polynomial } from "./polynomial.ts";

/** `2 artanh(s) / s` by `s^2`: terms of its series up to s = 1/3. */
const ARTANH = polynomial([1 / 15, 1 / 13, 1 / 11, 1 / 9, 1 / 7, 1 / 5, 1 / 3, 1].map((c) => 2 * c));

const shareOp: Op<null> = elementwise("softplusShare", {
  text: ([x], t) => `exp(-abs(${x})) / (${t}(2.0f) + exp(-abs(${x})))`,
  value: (x) => Math.exp(-Math.abs(x)) / (2 + Math.exp(-Math.abs(x))),
  derivatives: [null],
});

const softplusPartsOp: Op<null> = elementwise("softplusParts", {
  // log(1 + e) = 2 artanh(e / (2 + e)) keeps its digits where e is small.
  text: ([x, s], t) => `fma(${ARTANH.text(`(${s} * ${s})`, t)}, ${s}, max(${x}, ${t}()))`,
  value: (x, s) => Math.max(x, 0) + ARTANH.value(s * s) * s,
  derivatives: [null],
});

const softplusOp: Op<null> = composed("softplus", {
  definition: (x) => apply(softplusPartsOp, [x, apply(shareOp, [x], null)], null),
  derivative: ([x], _, g) => multiply(g, sigmoid(x)),
});

/**
 * Softplus, `log(1 + e^x)`: a smooth rectifier, precise also far below zero.
 *
 * @param x f32
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { softplus } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertAlmostEquals((await read(gpu, softplus(tensor([0]))))[0], Math.LN2, 1e-6);
 * ```
 */
export function softplus(x: Tensor): Tensor {
  checkTensor("softplus", x, "x");
  return apply(softplusOp, [x], null);
}
