/** An exponential average. `total` is the weight of all readings so far; it approaches 1. */
export type Average = { readonly mean: number; readonly total: number };

/**
 * Adds a reading to an average, with the bias correction of Adam's moments (arXiv 1412.6980, algorithm 1).
 *
 * @param average The average so far; empty when absent. With a `total` of 0 the reading replaces its mean
 * @param added The reading, and its weight above 0 and at most 1
 * @returns The average
 */
export function addReading(
  { mean, total }: Average = { mean: 0, total: 0 },
  { reading, weight }: { readonly reading: number; readonly weight: number },
): Average {
  const all = (1 - weight) * total + weight, share = weight / all;
  return { mean: (1 - share) * mean + share * reading, total: all };
}
