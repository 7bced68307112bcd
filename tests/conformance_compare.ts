/**
 * Compares results with those of another implementation.
 *
 * @module
 */

import type { HostData, Path } from "@firn/train";
import type { SafetensorsFile } from "@firn/train/data";

/**
 * Largest difference as a share of the largest expected value, over the elements that count; infinite when sizes differ
 * or a value is NaN.
 */
export function compare(
  seen: ArrayLike<number>,
  expected: ArrayLike<number>,
  counts: (index: number) => boolean = () => true,
): number {
  if (seen.length !== expected.length) return Infinity;
  let difference = 0, scale = 0;
  for (let i = 0; i < seen.length; i++) {
    if (!counts(i)) continue;
    const d = Math.abs(seen[i] - expected[i]);
    difference = Number.isNaN(d) ? Infinity : Math.max(difference, d);
    scale = Math.max(scale, Math.abs(expected[i]));
  }
  return difference === 0 ? 0 : difference / scale;
}

/** Largest relative difference, number by number. */
export function compareEach(seen: readonly number[], expected: readonly number[]): number {
  if (seen.length !== expected.length) return Infinity;
  return Math.max(...seen.map((s, i) => compare([s], [expected[i]])));
}

/** A gradient that is at most this share of the largest of its tensor, or of all tensors, is rounding noise. */
const NOISE = 1e-6;

/**
 * Compares every stored tensor of a prefix. Infinite when the names differ. `gradients` is the prefix of the first
 * gradients: only elements whose gradient is above the noise are compared. `pathOf` translates the names of the file.
 */
export async function compareAll(
  file: SafetensorsFile,
  values: readonly [Path, HostData][],
  { prefix, gradients = prefix, pathOf }: {
    readonly prefix: string;
    readonly gradients?: string;
    readonly pathOf: (name: string) => Path;
  },
): Promise<number> {
  const seen = new Map(values);
  const names = file.names.filter((name) => name.startsWith(prefix));
  const largest = await largestOf(file, names.map((name) => gradients + name.slice(prefix.length)));
  const noise = NOISE * Math.max(0, ...largest);
  let worst = 0;
  for (const [i, name] of names.entries()) {
    const key = name.slice(prefix.length);
    // PEFT wraps the model and what it adapts, and names its adapter.
    const plain = key.replace(/^base_model\.model\./, "").replace(/\.(base_layer|modules_to_save)(?=\.)/, "");
    const path = pathOf(plain.replace(/\.default(?=\.|$)/, ""));
    if (!seen.has(path)) return Infinity;
    const own = seen.get(path)!, expected = await file.readF32(name);
    if (largest[i] <= noise) {
      // Nothing but noise, which Adam turns into steps of either sign.
      if (gradients === prefix && [...own].some((g) => !(Math.abs(g) <= noise))) return Infinity;
      continue;
    }
    const counts = gradients === prefix ? undefined : aboveNoise(await file.readF32(gradients + key));
    worst = Math.max(worst, compare(own, expected, counts));
  }
  return names.length === seen.size ? worst : Infinity;
}

/** The largest magnitude of each tensor. */
async function largestOf(file: SafetensorsFile, names: readonly string[]): Promise<number[]> {
  const found: number[] = [];
  for (const name of names) {
    found.push((await file.readF32(name)).reduce((most, x) => Math.max(most, Math.abs(x)), 0));
  }
  return found;
}

function aboveNoise(gradient: Float32Array): (index: number) => boolean {
  const largest = gradient.reduce((most, g) => Math.max(most, Math.abs(g)), 0);
  return (i) => Math.abs(gradient[i]) > NOISE * largest;
}
