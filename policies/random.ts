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

/**
 * Random numbers that depend only on seed and draw, without any state: a hash of their place in the stream.
 *
 * @param draw Which stream
 * @returns A function whose results are uniform above 0 and below 1
 */
export function randomStream({ seed, draw }: Draw): () => number {
  const base = mix(mix(seed) + draw);
  let place = 0;
  return () => (mix(base + place++) + 0.5) / 2 ** 32;
}

/**
 * Draws from a Dirichlet distribution: independent gamma variates, divided by their sum.
 *
 * Source: Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables" (2000); normal numbers by Box and Muller.
 *
 * @param concentrations Each 1 or more
 * @param random Uniform numbers
 * @returns Shares that sum to 1
 */
export function randomShares(concentrations: readonly number[], random: () => number): number[] {
  const gammas = concentrations.map((concentration) => gamma(concentration, random));
  const sum = gammas.reduce((total, value) => total + value, 0);
  return gammas.map((value) => value / sum);
}

/** A gamma variate of scale 1. */
function gamma(shape: number, random: () => number): number {
  const d = shape - 1 / 3, c = 1 / Math.sqrt(9 * d);
  while (true) {
    const normal = Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());
    const v = (1 + c * normal) ** 3;
    if (v > 0 && Math.log(random()) < normal ** 2 / 2 + d * (1 - v + Math.log(v))) return d * v;
  }
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
