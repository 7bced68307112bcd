/**
 * Statistics of the study, as pure functions: paired differences with Student's t, and Holm's correction.
 *
 * @module
 */

/** A mean difference, with the interval that holds it in 95 of 100 samples, and how likely one as large is by chance. */
export interface Difference {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
  /** Two-sided. */
  readonly p: number;
  /** Pairs. */
  readonly count: number;
}

/** The mean of some values; NaN of none. */
export function meanOf(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

/** The value in the middle, or between the two there; NaN of none. */
export function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b), middle = sorted.length >> 1;
  if (sorted.length === 0) return NaN;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The standard deviation of a sample; NaN of fewer than two values. */
export function deviationOf(values: readonly number[]): number {
  const mean = meanOf(values);
  return Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (values.length - 1));
}

/** Coefficients of Lanczos's approximation for g = 7. */
const LANCZOS = [
  0.99999999999980993,
  676.5203681218851,
  -1259.1392167224028,
  771.32342877765313,
  -176.61502916214059,
  12.507343278686905,
  -0.13857109526572012,
  9.9843695780195716e-6,
  1.5056327351493116e-7,
];

/** The logarithm of the gamma function, for arguments of at least one half. */
function logGamma(x: number): number {
  const z = x - 1, t = z + 7.5;
  const sum = LANCZOS.slice(1).reduce((a, c, i) => a + c / (z + i + 1), LANCZOS[0]);
  return 0.5 * Math.log(2 * Math.PI) + (z + 0.5) * Math.log(t) - t + Math.log(sum);
}

/**
 * The regularized incomplete beta function.
 *
 * Source: its continued fraction, evaluated by Lentz's method (Numerical Recipes, section 6.4).
 *
 * @param x From 0 to 1
 * @param shape Both parameters, at least one half
 * @returns From 0 to 1
 */
export function incompleteBeta(x: number, { a, b }: { readonly a: number; readonly b: number }): number {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, { a: b, b: a });
  const front = Math.exp(
    logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x),
  ) / a;
  const apart = (value: number): number => Math.abs(value) < 1e-300 ? 1e-300 : value;
  let d = 1 / apart(1 - (a + b) * x / (a + 1)), c = 1, fraction = d;
  for (let m = 1; m < 300; m++) {
    const terms = [
      m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
      -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
    ];
    let step = 1;
    for (const term of terms) {
      d = 1 / apart(1 + term * d);
      c = apart(1 + term / c);
      step = d * c;
      fraction *= step;
    }
    if (Math.abs(step - 1) < 1e-15) break;
  }
  return front * fraction;
}

/** How likely Student's t is as far from 0, on both sides. */
export function tProbability(t: number, degrees: number): number {
  return incompleteBeta(degrees / (degrees + t * t), { a: degrees / 2, b: 0.5 });
}

/** The t that is passed on both sides together with a probability. */
export function tQuantile(probability: number, degrees: number): number {
  let low = 0, high = 1;
  while (tProbability(high, degrees) > probability) high *= 2;
  for (let i = 0; i < 200 && high - low > 1e-14 * high; i++) {
    const middle = (low + high) / 2;
    if (tProbability(middle, degrees) > probability) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** How far apart differences may be that are the same: qualities have six digits, and two of them are half a unit off each. */
const ALIKE = 2.5e-6;

/**
 * The mean of paired differences, with its interval by Student's t. Where all are alike but for rounding they tell no spread: p is 1.
 *
 * @param differences One for each pair
 * @returns It; null of fewer than two pairs, which tell no spread
 */
export function pairedDifference(differences: readonly number[]): Difference | null {
  const count = differences.length;
  if (count < 2) return null;
  const mean = meanOf(differences), error = deviationOf(differences) / Math.sqrt(count);
  const half = tQuantile(0.05, count - 1) * error;
  // Accuracies are shares of a few thousand rows, so that few pairs may differ alike by chance: that tells no spread.
  const alike = Math.max(...differences) - Math.min(...differences) < ALIKE;
  const p = alike ? 1 : tProbability(mean / error, count - 1);
  return { mean, low: mean - half, high: mean + half, p, count };
}

/**
 * Holm's correction for many comparisons.
 *
 * Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).
 *
 * @param probabilities Of each comparison
 * @returns Corrected ones, in the same order
 */
export function holm(probabilities: readonly number[]): number[] {
  const order = probabilities.map((_, i) => i).sort((i, k) => probabilities[i] - probabilities[k]);
  const corrected = probabilities.slice();
  let most = 0;
  order.forEach((i, rank) => {
    most = Math.max(most, Math.min(1, (order.length - rank) * probabilities[i]));
    corrected[i] = most;
  });
  return corrected;
}

/** A value between those of points, on the line from one to the next; null outside. */
export function interpolated(
  points: readonly (readonly [x: number, y: number])[],
  x: number,
): number | null {
  const sorted = points.toSorted(([a], [b]) => a - b);
  if (sorted.length === 0 || x < sorted[0][0] || x > sorted.at(-1)![0]) return null;
  const at = Math.max(1, sorted.findIndex(([end]) => end >= x));
  const [x0, y0] = sorted[at - 1], [x1, y1] = sorted[at] ?? sorted[at - 1];
  return x1 === x0 ? y1 : y0 + (y1 - y0) * (x - x0) / (x1 - x0);
}
