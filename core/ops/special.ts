/**
 * The error function and the normal distribution, which WGSL lacks.
 *
 * @module
 */

import { f32 } from "../../kernels/kernel.ts";
import { apply, type Op, type Tensor } from "../tensor.ts";
import { multiply, negate } from "./arithmetic.ts";
import { minimum } from "./comparison.ts";
import { composed, elementwise, lift, type Operand } from "./elementwise.ts";
import { abs, exp } from "./functions.ts";
import { polynomial } from "./polynomial.ts";

/** `erf(x) / x - 1` by `x^2`, for |x| up to {@link MIDDLE}. */
const NEAR = polynomial([
  -5.96761703e-4,
  4.99119423e-3,
  -2.67681349e-2,
  1.12819925e-1,
  -3.76125336e-1,
  1.28379166e-1,
]);

/** `log(1 - erf(x)) / x + 1` for x from {@link MIDDLE} to {@link END}. */
const FAR = polynomial([
  -1.72853470e-5,
  3.83197126e-4,
  -3.88396438e-3,
  2.42546219e-2,
  -1.06777877e-1,
  -6.34846687e-1,
  -1.28717512e-1,
]);

const MIDDLE = 475 / 512;
/** From here on f32 cannot tell the error function from 1. */
const END = 4;

/** Inputs: x, its magnitude up to {@link END}, and its square. */
const erfPartsOp: Op<null> = elementwise("erfParts", {
  text: ([x, a, square], t) => {
    const near = `fma(${NEAR.text(square, t)}, ${x}, ${x})`;
    const far = `sign(${x}) * (${t}(1.0f) - exp(fma(${FAR.text(a, t)}, ${a}, -${a})))`;
    // NaN is near: min(NaN, 4) may be 4.
    return `select(${near}, ${far}, abs(${x}) > ${t}(${f32(MIDDLE)}))`;
  },
  value: (x, a, square) =>
    Math.abs(x) > MIDDLE ? Math.sign(x) * (1 - Math.exp(FAR.value(a) * a - a)) : NEAR.value(square) * x + x,
  derivatives: [null],
});

const erfOp: Op<null> = composed("erf", {
  definition: (x) => apply(erfPartsOp, [x, minimum(abs(x), END), multiply(x, x)], null),
  derivative: ([x], _, g) => multiply(g, multiply(2 / Math.sqrt(Math.PI), exp(negate(multiply(x, x))))),
});

/**
 * Error function: `2 / sqrt(pi)` times the integral of `e^(-t^2)` from 0 to x, to a relative error of 1e-7.
 *
 * Source: N. Juffa 2016, minimax polynomials in two parts, https://stackoverflow.com/a/35148199.
 *
 * @param x Tensor or number
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { erf } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertAlmostEquals((await read(gpu, erf(tensor([1]))))[0], 0.8427008, 1e-6);
 * ```
 */
export function erf(x: Operand): Tensor {
  return apply(erfOp, [lift(x)], null);
}

/** `(1 + 2a) e^(a^2) (1 - erf(a)) - 1` by `(a - 2) / (a + 2)`, for a from 0 to 10. */
const SCALED = polynomial([
  -4.01139259e-4,
  -1.23075210e-3,
  1.31355342e-3,
  8.63227434e-3,
  -8.05991981e-3,
  -5.42046614e-2,
  1.64055392e-1,
  -1.66031361e-1,
  -9.27639827e-2,
  2.76978403e-1,
]);

/** Input: x. Output: `(a - 2) / (a + 2)` with `a = |x| / sqrt(2)`. */
const ratioOp: Op<null> = elementwise("normalCdfRatio", {
  text: ([x], t) => {
    // The limit keeps infinity from becoming NaN.
    const a = `min(abs(${x}) * ${f32(Math.SQRT1_2)}, ${t}(100.0f))`;
    return `(${a} - ${t}(2.0f)) / (${a} + ${t}(2.0f))`;
  },
  value: (x) => 1 - 4 / (Math.abs(x) * Math.SQRT1_2 + 2),
  derivatives: [null],
});

/** Inputs: x and its ratio. Output: the probability of a value beyond |x|, on one side. */
const tailOp: Op<null> = elementwise("normalTail", {
  text: ([x, ratio], t) => {
    const scaled = `(${SCALED.text(ratio, t)} + ${t}(1.0f)) / (abs(${x}) * ${f32(Math.SQRT2)} + ${t}(1.0f))`;
    return `${scaled} * exp(${x} * ${x} * -0.5f) * 0.5f`;
  },
  value: (x, ratio) => (SCALED.value(ratio) + 1) / (Math.abs(x) * Math.SQRT2 + 1) * Math.exp(x * x / -2) / 2,
  derivatives: [null],
});

const sideOp: Op<null> = elementwise("normalSide", {
  text: ([x, tail], t) => `select(${t}(1.0f) - ${tail}, ${tail}, ${x} < ${t}())`,
  value: (x, tail) => x < 0 ? tail : 1 - tail,
  derivatives: [null],
});

/**
 * The normal distribution function `(1 + erf(x / sqrt(2))) / 2`, precise to a few units in the last place also far below zero.
 *
 * Source: Shepherd and Laframboise 1981, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x"; minimax coefficients for f32
 * by N. Juffa.
 */
export const normalCdfOp: Op<null> = composed("normalCdf", {
  definition: (x) => apply(sideOp, [x, apply(tailOp, [x, apply(ratioOp, [x], null)], null)], null),
  derivative: ([x], _, g) =>
    multiply(g, multiply(1 / Math.sqrt(2 * Math.PI), exp(multiply(-0.5, multiply(x, x))))),
});
