/**
 * The cache of some sequences: grows with them, and holds the last tokens where they are longer than the model allows.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { Model } from "../models/model.ts";
import type { Gpu } from "../runtime/device.ts";
import { checkTimestamps, type KernelTime } from "../runtime/profile.ts";
import { UNREAD } from "./generation_graph.ts";
import { type GenerationRun, generationRun } from "./generation_run.ts";
import type { GenerationOptions, Sequence } from "./generation_types.ts";
import type { Text } from "./prompt_chunks.ts";
import { type Sampling, stepsOf } from "./sampling.ts";
import { alike, type Drawn } from "./sequences.ts";
import { toldOf } from "./told.ts";

/** Fewest places of a cache. */
const SMALLEST = 32;

/** The cache of some sequences, and the tokens that were drawn and not read. */
export interface CachedSequences {
  /** Reads sequences and draws a token of each. `before`: sequences that the cache holds, in the same order. */
  prompt(
    sequences: readonly Sequence[],
    options: { readonly samplings: readonly Sampling[]; readonly before?: readonly Sequence[] },
  ): Promise<void>;
  /** Draws at most so many tokens of each sequence, at least one, and reads them. */
  draw(sequences: readonly Sequence[], most: number): Promise<readonly Drawn[]>;
  /** Draws a token of each sequence that the next call of `draw` reads, and times each launch. */
  profile(sequences: readonly Sequence[]): Promise<KernelTime[]>;
  /** Throws if a training step consumed the parameters. */
  check(): void;
  /** Frees all buffers. */
  destroy(): void;
}

/**
 * Makes the cache of a generation, empty at first.
 *
 * @param gpu The device
 * @param model The model
 * @param options Own steps, and how long sequences are expected to become
 * @returns The cache
 */
export function cachedSequences(
  gpu: Gpu,
  model: Model,
  { processors = [], expected = 0 }: Pick<GenerationOptions, "processors" | "expected">,
): CachedSequences {
  let run: GenerationRun | null = null, samplings: readonly Sampling[] = [], unread = 0;
  /** Makes room for sequences of a length; false when what the cache held is gone. */
  function reserve(batch: number, length: number): boolean {
    const steps = stepsOf(samplings), wanted = Math.max(length, expected, SMALLEST);
    const capacity = Math.min(2 ** Math.ceil(Math.log2(wanted)), model.maxLength);
    const kept = run?.options.batch === batch && String(run.options.steps) === String(steps);
    if (!kept) {
      run?.destroy();
      run = generationRun(gpu, model, { batch, capacity, steps, processors });
    } else if (run!.options.capacity < length) run = run!.grow(capacity);
    return kept;
  }
  async function read(sequences: readonly Sequence[], before: readonly Sequence[]): Promise<void> {
    const texts = sequences.map(({ tokens, generated }, r): Text => {
      const dropped = Math.max(0, tokens.length - model.maxLength), kept = tokens.slice(dropped);
      const cached = Math.max(0, dropped > 0 ? 0 : alike(kept, cachedOf(before[r], kept.length)));
      return { tokens: kept, dropped, cached, generated: Math.min(generated, kept.length) };
    });
    const kept = reserve(sequences.length, longestOf(texts));
    await run!.prompt(kept ? texts : texts.map((text) => ({ ...text, cached: 0 })), samplings);
    unread = 1;
  }
  /** The tokens that the cache surely holds for a sequence of a length: the last one may not have been read. */
  function cachedOf(sequence: Sequence | undefined, length: number): readonly number[] {
    const tokens = sequence?.tokens ?? [], switches = run?.switches ?? [];
    const other = switches.some((end) => (tokens.length > end) !== (length > end));
    return tokens.length > model.maxLength || other ? [] : tokens.slice(0, -1);
  }
  return {
    async prompt(sequences, { samplings: wanted, before = [] }) {
      samplings = wanted;
      await read(sequences, before.length === sequences.length ? before : []);
    },
    async draw(sequences, most) {
      const active = sequences.filter(({ ended }) => !ended), longest = longestOf(active);
      const ends = active.flatMap(({ tokens }) =>
        [model.maxLength, ...run!.switches].map((end) => end - tokens.length)
      );
      // The next token would be the first one beyond an end, or further ones beyond the longest sequence.
      if (unread === 0 && (longest > model.maxLength || ends.includes(-1))) await read(sequences, []);
      // A step reads the token that was drawn last, which must not be beyond an end.
      const room = ends.filter((left) => left >= 0).map((left) => left + 1);
      const wanted = longest > model.maxLength ? 1 : Math.max(1, Math.min(most, UNREAD, ...room));
      while (unread < wanted) {
        reserve(sequences.length, longest + unread);
        await run!.step(unread++);
      }
      const tokens = await run!.read(unread);
      unread = 0;
      return sequences.map((_, r) =>
        drawnOf(tokens, { row: r, batch: sequences.length, most: samplings[r].logProbs })
      );
    },
    async profile(sequences) {
      checkTimestamps(gpu);
      const longest = longestOf(sequences) + unread;
      if (unread === UNREAD || longest > model.maxLength) {
        throw new InputError(
          "Cannot profile as a step must draw a token: call next first, or use shorter sequences",
        );
      }
      reserve(sequences.length, longest);
      return await run!.profile(unread++);
    },
    check: () => run?.check(),
    destroy() {
      run?.destroy();
      run = null;
    },
  };
}

/** The tokens of a sequence among those of all; `most`: how many of the likeliest are told. */
function drawnOf(
  { drawn, told }: Awaited<ReturnType<GenerationRun["read"]>>,
  { row, batch, most }: { readonly row: number; readonly batch: number; readonly most: number | undefined },
): Drawn {
  const places = Array.from({ length: drawn.length / batch }, (_, i) => i * batch + row);
  const ids = places.map((at) => drawn[at]);
  if (told === null || most === undefined) return { ids };
  const width = told.length / drawn.length;
  return {
    ids,
    told: places.map((at) => toldOf(told.subarray(at * width, (at + 1) * width), { id: drawn[at], most })),
  };
}

function longestOf(texts: readonly { readonly tokens: readonly number[] }[]): number {
  return Math.max(...texts.map(({ tokens }) => tokens.length));
}
