/** An exponential average. `total` is the weight of all readings so far: 1, less what is left of the start. */
export type Average = { readonly mean: number; readonly total: number };

/**
 * Takes a reading into an average, corrected for its start as Adam's moments are (arXiv 1412.6980, algorithm 1).
 *
 * @param average So far; none when absent. With a `total` of 0 the reading takes the place of its mean
 * @param added The reading and its weight, above 0 and at most 1
 * @returns The average
 */
export function addReading(
  { mean, total }: Average = { mean: 0, total: 0 },
  { reading, weight }: { readonly reading: number; readonly weight: number },
): Average {
  const all = (1 - weight) * total + weight, share = weight / all;
  return { mean: (1 - share) * mean + share * reading, total: all };
}
