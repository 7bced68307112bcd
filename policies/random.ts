import { InputError } from "../core/errors.ts";

/** Identifies one of many independent orders. */
export interface Draw {
  /** A whole number; only its lower 32 bits matter. */
  readonly seed: number;
  /** Number of the draw. */
  readonly draw: number;
}

/**
 * A random order of 0 to count - 1 that depends only on seed and draw, without any state.
 *
 * Sorts by a hash of seed, draw and index, mixed by the finalizer of MurmurHash3 (Appleby, public domain).
 *
 * @param count How many
 * @param draw Which order
 * @returns Each of 0 to count - 1 once
 */
export function randomOrder(count: number, { seed, draw }: Draw): number[] {
  const base = mix(mix(seed) + draw);
  const keys = Array.from({ length: count }, (_, i) => mix(base + i));
  return [...keys.keys()].sort((a, b) => keys[a] - keys[b] || a - b);
}

/** A 32-bit hash of the lower 32 bits of a whole number. */
function mix(value: number): number {
  let h = value + 0x9e3779b9 >>> 0;
  h = Math.imul(h ^ h >>> 16, 0x85ebca6b);
  h = Math.imul(h ^ h >>> 13, 0xc2b2ae35);
  return (h ^ h >>> 16) >>> 0;
}

/** Throws unless a seed is a whole number. */
export function checkSeed(seed: number): void {
  if (Number.isSafeInteger(seed)) return;
  throw new InputError(`Cannot draw at random as "seed" must be a whole number: got ${seed}`);
}
