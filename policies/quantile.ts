/** A quantile between the two nearest values, as in `numpy.quantile`: `q` from 0 to 1; NaN of no values. */
export function quantileOf(q: number, values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b), at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)] ?? NaN, high = sorted[Math.ceil(at)] ?? NaN;
  return low + (high - low) * (at - Math.floor(at));
}
