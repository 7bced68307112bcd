/**
 * The hyperbolic tangent, with all digits near zero.
 *
 * @module
 */

import { f32 } from "./kernel.ts";

/** `tanh(x) / x - 1` by `x^2`, divided by `x^2`, for |x| below {@link SMALL}. */
const COEFFICIENTS = [-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1];
const LAST = -3.33332819422e-1;
const SMALL = 0.625;

/**
 * WGSL for the hyperbolic tangent. That of the language is a quotient of exponentials, whose error near zero is as large as
 * near one.
 *
 * Source: Moshier, Cephes library, `tanhf.c`.
 *
 * @param x Name of the value
 * @param type Its type, a float or a vector of floats
 * @returns An expression
 */
export function tanhText(x: string, type: string): string {
  const constant = (value: number): string => `${type}(${f32(value)})`, square = `(${x} * ${x})`;
  const [first, ...rest] = [...COEFFICIENTS, LAST].map(constant);
  const near = rest.reduce((sum, c) => `fma(${sum}, ${square}, ${c})`, first);
  const far = `tanh(clamp(${x}, ${constant(-15)}, ${constant(15)}))`;
  // The first one for NaN, which a clamp would make a number.
  return `select(fma(${near} * ${square}, ${x}, ${x}), ${far}, abs(${x}) >= ${constant(SMALL)})`;
}
