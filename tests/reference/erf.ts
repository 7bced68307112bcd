/**
 * The error function in float64: a series near zero, a continued fraction far from it.
 *
 * @module
 */

/** `2 / sqrt(pi)` times the integral of `e^(-t^2)` from 0 to x. */
export function erf(x: number): number {
  if (Math.abs(x) > 2) return Math.sign(x) * (1 - erfc(Math.abs(x)));
  let term = x, sum = x;
  for (let n = 1; n < 60; n++) {
    term *= -x * x / n;
    sum += term / (2 * n + 1);
  }
  return 2 / Math.sqrt(Math.PI) * sum;
}

/** `1 - erf(x)`, with all digits where it is small. */
export function erfc(x: number): number {
  if (x < 2) return 1 - erf(x);
  let rest = 0;
  for (let k = 120; k >= 1; k--) rest = k / 2 / (x + rest);
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + rest);
}
