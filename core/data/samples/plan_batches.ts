/**
 * Which samples share a batch.
 *
 * @module
 */

import type { Pair } from "../../../kernels/random.ts";
import type { TokenBatch } from "../../models/tasks.ts";
import { bestFit } from "./best_fit.ts";
import { packSamples, padSamples } from "./collate.ts";
import { permutation } from "./permutation.ts";
import type { Sample } from "./sample.ts";

/** What a batch looks like. */
export interface BatchShape {
  /** Tokens of a row at most, at least 2. */
  readonly length: number;
  /** Rows of a batch. */
  readonly batch: number;
  /** Whether a row holds several samples that do not see each other; one and padding when absent. */
  readonly pack?: boolean;
  /** Whether samples are one stream of tokens that is cut into whole rows, without regard to where one ends; else absent. */
  readonly windows?: boolean;
  /**
   * How many lengths padded batches may have: `length`, its half, its quarter and so on. Each batch has the shortest that its
   * samples fit in. 3 when absent.
   */
  readonly buckets?: number;
  /** Id of padding; 0 when absent. */
  readonly pad?: number;
  /** Whether padded batches say what is padding; false when absent, as causal models do not need it. */
  readonly mask?: boolean;
}

/** The samples of a batch by row, and the tokens of a row. */
export interface PlannedBatch {
  readonly rows: readonly (readonly Sample[])[];
  readonly length: number;
}

/**
 * Divides samples into batches, in an order that follows from a key. The last batch may have fewer rows.
 *
 * @param samples The samples
 * @param options What a batch looks like, and the key; without a key the order stays, and all batches have one length
 * @returns The batches
 */
export function planBatches(
  samples: readonly Sample[],
  { key, ...shape }: BatchShape & { readonly key?: Pair },
): readonly PlannedBatch[] {
  const { length, batch, pack = false, windows = false, buckets = 3 } = shape;
  const shuffled = shuffle(samples, key, 0);
  if (windows) {
    const cut = shuffle(windowsOf(shuffled, length), key, 1).map((window) => [window]);
    return chunks(cut, batch).map((rows) => ({ rows, length }));
  }
  if (pack) {
    const rows = bestFit(shuffled.map(({ ids }) => ids.length), length).map((row) =>
      row.map((i) => shuffled[i])
    );
    return chunks(shuffle(rows, key, 1), batch).map((rows) => ({ rows, length }));
  }
  const bucketOf = ({ ids }: Sample): number => bucket(ids.length, { length, buckets });
  // Sorting keeps the order of samples of one bucket.
  const sorted = key === undefined ? shuffled : shuffled.toSorted((a, b) => bucketOf(a) - bucketOf(b));
  const longest = samples.reduce((most, sample) => Math.max(most, bucketOf(sample)), 0);
  const batches = chunks(sorted, batch).map((part) => ({
    rows: part.map((sample) => [sample]),
    length: key === undefined ? longest : Math.max(...part.map(bucketOf)),
  }));
  return shuffle(batches, key, 1);
}

/**
 * Makes a planned batch.
 *
 * @param planned Its samples
 * @param shape What it looks like
 * @returns The batch
 */
export function collate(
  { rows, length }: PlannedBatch,
  { batch, pad, mask = false, pack }: BatchShape,
): TokenBatch {
  return pack
    ? packSamples(rows, { length, batch, pad })
    : padSamples(rows.map(([sample]) => sample), { length, batch, pad, mask });
}

/** Whole rows of the samples behind each other. What is left fills no row. */
function windowsOf(samples: readonly Sample[], length: number): Sample[] {
  const total = samples.reduce((n, { ids }) => n + ids.length, 0), stream = new Int32Array(total);
  const learned = new Uint8Array(total);
  let at = 0;
  for (const sample of samples) {
    stream.set(sample.ids, at);
    learned.set(sample.learned, at);
    at += sample.ids.length;
  }
  return Array.from({ length: Math.floor(total / length) }, (_, i) => ({
    ids: stream.subarray(i * length, (i + 1) * length),
    learned: learned.subarray(i * length, (i + 1) * length),
  }));
}

/** The shortest length that batches may have and so many tokens fit in. */
function bucket(
  tokens: number,
  { length, buckets }: { readonly length: number; readonly buckets: number },
): number {
  for (let i = buckets - 1; i > 0; i--) {
    const short = Math.ceil(length / 2 ** i);
    if (tokens <= short && short >= 2) return short;
  }
  return length;
}

function shuffle<T>(items: readonly T[], key: Pair | undefined, epoch: number): readonly T[] {
  return key === undefined ? items : Array.from(permutation(items.length, { key, epoch }), (i) => items[i]);
}

function chunks<T>(items: readonly T[], size: number): T[][] {
  return Array.from(
    { length: Math.ceil(items.length / size) },
    (_, i) => items.slice(i * size, (i + 1) * size),
  );
}
