/**
 * Where a step of generation spends its time, each of its launches.
 *
 * @module
 */

import type { Gpu, KernelTime, Model } from "@firn/train";
import { defineGeneration, type GenerationState } from "@firn/train/infer";
import { measurePeaks } from "./peaks.ts";
import { familyOf, type Group, groupBy, type Peaks } from "./roofline.ts";

/** What a profile of generation finds. */
export interface GenerationProfile {
  /** Milliseconds of a token of all sequences, its reading by the host included. */
  readonly wall: number;
  /** Milliseconds of the kernels of a step, each with the clock read around it, which stretches them. */
  readonly kernels: number;
  readonly peaks: Peaks;
  /** The launches of a step, in order. */
  readonly launches: readonly KernelTime[];
  readonly byName: readonly Group[];
  readonly families: readonly Group[];
}

/**
 * Profiles the step that adds a token to each sequence.
 *
 * @param gpu The device; needs the feature `timestamp-query`
 * @param model The model
 * @param options Sequences, tokens that each has before, and tokens that are timed
 * @returns What was found
 */
export async function profileOfGeneration(
  gpu: Gpu,
  model: Model,
  { batch, length, steps }: { readonly batch: number; readonly length: number; readonly steps: number },
): Promise<GenerationProfile> {
  const { peaks } = await measurePeaks(gpu);
  using generation = defineGeneration(gpu, model, { stop: [], expected: length + 2 * steps + 8 });
  const { vocab_size: vocab } = model.source as { vocab_size: number };
  const prompts = Array.from(
    { length: batch },
    (_, row) => Array.from({ length }, (_, i) => (i * 7919 + row * 101) % vocab),
  );
  let state: GenerationState = await generation.next(await generation.init(prompts), steps);
  const start = performance.now();
  state = await generation.next(state, steps);
  const wall = (performance.now() - start) / steps;
  // The first one warms up.
  await generation.profile(state);
  const launches = await generation.profile(state);
  return {
    wall,
    kernels: launches.reduce((sum, { milliseconds }) => sum + milliseconds, 0),
    peaks,
    launches,
    byName: groupBy(launches, { peaks, key: ({ name }) => name }),
    families: groupBy(launches, { peaks, key: ({ name }) => familyOf(name) }),
  };
}

/** The line before the tables. */
export function generationLine(
  { wall, kernels, launches }: Pick<GenerationProfile, "wall" | "kernels" | "launches">,
  batch: number,
): string {
  const [one, all] = [1000 / wall, 1000 * batch / wall].map((pace) => pace.toFixed(1));
  return `token   ${wall.toFixed(2)} ms, ${one} per second${
    batch === 1 ? "" : `, ${all} of all sequences`
  }; ` +
    `${launches.length} launches, ${
      kernels.toFixed(2)
    } ms for kernels clocked one by one, which stretches them`;
}
