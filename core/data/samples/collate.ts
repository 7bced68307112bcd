/**
 * Samples as batches: pure functions.
 *
 * Axes: B batch, T time.
 *
 * @module
 */

import { counted } from "../../counted.ts";
import { InputError } from "../../errors.ts";
import type { TokenBatch } from "../../models/tasks.ts";
import type { Tensor } from "../../tensor.ts";
import { IGNORE } from "../../ops/cross_entropy.ts";
import { tensor } from "../../sources.ts";
import type { Sample } from "./sample.ts";

/** Options of {@link padSamples}. */
export interface PadOptions {
  /** Tokens of a row, T; those of the longest sample when absent. */
  readonly length?: number;
  /** Rows, B; as many as there are samples when absent. What is missing is padding. */
  readonly batch?: number;
  /** Id of padding; 0 when absent. */
  readonly pad?: number;
  /** Whether padding follows the tokens of a row or precedes them; it follows when absent. */
  readonly side?: "right" | "left";
  /**
   * Whether the batch says what is padding; true when absent. A causal model that is padded on the right does not need it: no
   * token sees what follows it.
   */
  readonly mask?: boolean;
}

/**
 * Makes a batch of a row for each sample, padded to one length. Padding has label -100.
 *
 * @param samples The samples
 * @param options Sizes, padding
 * @returns i32 [B, T] each
 * @throws {InputError} When a sample is longer than a row, or there are more samples than rows
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { read, openGpu } from "@firn/train";
 * import { padSamples } from "@firn/train/data";
 *
 * const samples = [[5, 6, 7], [8, 9]].map((ids) => ({
 *   ids: Int32Array.from(ids),
 *   learned: Uint8Array.from(ids, (_, i) => i > 0 ? 1 : 0),
 * }));
 * await using gpu = await openGpu();
 * const { inputIds, attentionMask, labels } = padSamples(samples);
 * assertEquals([...await read(gpu, inputIds)], [5, 6, 7, 8, 9, 0]);
 * assertEquals([...await read(gpu, attentionMask!)], [1, 1, 1, 1, 1, 0]);
 * assertEquals([...await read(gpu, labels)], [-100, 6, 7, -100, 9, -100]);
 * ```
 */
export function padSamples(samples: readonly Sample[], options: PadOptions = {}): TokenBatch {
  const { pad = 0, side = "right", mask = true } = options;
  const batch = options.batch ?? samples.length;
  const length = options.length ?? samples.reduce((most, { ids }) => Math.max(most, ids.length), 1);
  check(samples.map(({ ids }) => ids.length), { length, batch, of: samples.length });
  const ids = new Int32Array(batch * length).fill(pad), labels = new Int32Array(batch * length).fill(IGNORE);
  // A row without tokens would see nothing at all: it sees its first one.
  const seen = Int32Array.from({ length: batch * length }, (_, i) => i % length === 0 ? 1 : 0);
  samples.forEach((sample, row) => {
    const time = sample.ids.length, begin = row * length + (side === "left" ? length - time : 0);
    put(sample, { ids, labels, begin });
    seen.fill(0, row * length, (row + 1) * length).fill(1, begin, begin + time);
  });
  const shape = [batch, length];
  return {
    inputIds: tensor(ids, shape),
    ...mask && { attentionMask: tensor(seen, shape) },
    labels: tensor(labels, shape),
  };
}

/** A batch of packed rows. */
export interface PackedBatch extends TokenBatch {
  /** i32 [B, T]: the number of each sample in its row, from 1; 0 for padding. */
  readonly segments: Tensor;
  /** i32 [B, T]: positions, which begin at 0 in each sample. Models find them by the segments; losses of one's own may not. */
  readonly positions: Tensor;
}

/** Options of {@link packSamples}. */
export interface PackOptions {
  /** Tokens of a row, T. */
  readonly length: number;
  /** Rows, B; as many as there are when absent. What is missing is padding. */
  readonly batch?: number;
  /** Id of padding; 0 when absent. */
  readonly pad?: number;
}

/**
 * Makes a batch of rows that hold several samples each. Every sample is a segment of its own: none sees another. Padding is
 * the last segment of a row. The first token of a sample has label -100, as nothing precedes it.
 *
 * @param rows The samples of each row, such as {@link bestFit} chooses
 * @param options Sizes, padding
 * @returns i32 [B, T] each
 * @throws {InputError} When the samples of a row are longer than the row, or there are more rows than the batch has
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { read, openGpu } from "@firn/train";
 * import { packSamples } from "@firn/train/data";
 *
 * const samples = [[5, 6], [7, 8]].map((ids) => ({ ids: Int32Array.from(ids), learned: new Uint8Array([1, 1]) }));
 * await using gpu = await openGpu();
 * const { inputIds, segments, labels } = packSamples([samples], { length: 5 });
 * assertEquals([...await read(gpu, inputIds)], [5, 6, 7, 8, 0]);
 * assertEquals([...await read(gpu, segments)], [1, 1, 2, 2, 0]);
 * assertEquals([...await read(gpu, labels)], [-100, 6, -100, 8, -100]);
 * ```
 */
export function packSamples(
  rows: readonly (readonly Sample[])[],
  { length, batch = rows.length, pad = 0 }: PackOptions,
): PackedBatch {
  const lengths = rows.map((row) => row.reduce((n, { ids }) => n + ids.length, 0));
  check(lengths, { length, batch, of: rows.length });
  const ids = new Int32Array(batch * length).fill(pad), labels = new Int32Array(batch * length).fill(IGNORE);
  const segments = new Int32Array(batch * length);
  const positions = Int32Array.from({ length: batch * length }, (_, i) => i % length);
  rows.forEach((row, r) => {
    let begin = r * length;
    row.forEach((sample, i) => {
      put(sample, { ids, labels, begin });
      segments.fill(i + 1, begin, begin + sample.ids.length);
      for (let t = 0; t < sample.ids.length; t++) positions[begin + t] = t;
      begin += sample.ids.length;
    });
    for (let t = begin; t < (r + 1) * length; t++) positions[t] = t - begin;
  });
  const shape = [batch, length];
  return {
    inputIds: tensor(ids, shape),
    segments: tensor(segments, shape),
    positions: tensor(positions, shape),
    labels: tensor(labels, shape),
  };
}

function put(
  sample: Sample,
  { ids, labels, begin }: { readonly ids: Int32Array; readonly labels: Int32Array; readonly begin: number },
): void {
  ids.set(sample.ids, begin);
  for (let i = 1; i < sample.ids.length; i++) if (sample.learned[i] === 1) labels[begin + i] = sample.ids[i];
}

function check(
  lengths: readonly number[],
  { length, batch, of }: { readonly length: number; readonly batch: number; readonly of: number },
): void {
  const long = lengths.find((n) => n > length);
  if (long !== undefined) {
    throw new InputError(
      `Cannot make a batch as a row has ${counted(length, "token")}: got one of ${long}; cut it first`,
    );
  }
  if (of > batch) {
    throw new InputError(`Cannot make a batch as it has ${counted(batch, "row")}: got ${of}; give fewer`);
  }
}
