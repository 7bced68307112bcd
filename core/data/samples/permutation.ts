/**
 * Shuffling that follows from a seed.
 *
 * @module
 */

import { type Pair, threefry2x32 } from "../../../kernels/random.ts";

/**
 * The key of a seed.
 *
 * @param seed A whole number from 0
 * @returns Two words
 */
export function keyOf(seed: number): Pair {
  return [seed >>> 0, Math.floor(seed / 2 ** 32)];
}

/**
 * A Fisher-Yates shuffle of 0 to count - 1. Each draw depends on key, epoch and index alone.
 *
 * @param count How many
 * @param options The key and the epoch
 * @returns The numbers in another order
 */
export function permutation(
  count: number,
  { key, epoch }: { readonly key: Pair; readonly epoch: number },
): Uint32Array<ArrayBuffer> {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const [word] = threefry2x32(key, [epoch, i]);
    const j = Math.floor(word / 2 ** 32 * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
