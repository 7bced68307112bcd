/**
 * Polynomials in elementwise expressions.
 *
 * @module
 */

import { f32 } from "../../kernels/kernel.ts";

/** A polynomial by Horner's rule. */
export interface Polynomial {
  /** Its WGSL, given the name of a value and its type. */
  text(x: string, type: string): string;
  /** Its value. */
  value(x: number): number;
}

/**
 * Makes a polynomial.
 *
 * @param coefficients Those of the highest power first
 * @returns Its WGSL and its value
 */
export function polynomial(coefficients: readonly number[]): Polynomial {
  const [first, ...rest] = coefficients;
  return {
    text: (x, type) =>
      rest.reduce((sum, c) => `fma(${sum}, ${x}, ${type}(${f32(c)}))`, `${type}(${f32(first)})`),
    value: (x) => coefficients.reduce((sum, c) => sum * x + c, 0),
  };
}
