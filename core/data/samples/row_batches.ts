/**
 * Batches of samples that are shuffled, and padded or packed.
 *
 * @module
 */

import { counted } from "../../counted.ts";
import { threefry2x32 } from "../../../kernels/random.ts";
import { InputError } from "../../errors.ts";
import { fingerprint, wordsOf } from "../../fingerprint.ts";
import type { TokenBatch } from "../../models/tasks.ts";
import { type Batches, checkSizes, checkStep } from "../batches.ts";
import { fitSamples, type Long } from "./fit.ts";
import { keyOf } from "./permutation.ts";
import { type BatchShape, collate, planBatches, type PlannedBatch } from "./plan_batches.ts";
import type { Sample } from "./sample.ts";
import { type SampleGroups, sampleGroups } from "./sample_groups.ts";
import type { SampleSource } from "./sample_source.ts";

/** Options of {@link rowBatches}. */
export interface RowBatchesOptions extends BatchShape {
  /** What becomes of samples that are longer than a row; their end is cut off when absent. */
  readonly long?: Long;
  /** Seed of the order, a whole number from 0; 0 when absent. */
  readonly seed?: number;
  /** Bytes of rows among which samples are shuffled, about; 64 MiB when absent. The samples of two buffers are in memory. */
  readonly buffer?: number;
}

/** What samples amount to. */
export interface SampleCounts {
  /** How many there are. */
  readonly samples: number;
  /** Rows of batches that hold them. */
  readonly rows: number;
  /** Their tokens. */
  readonly tokens: number;
  /** Their tokens that are predicted and learned. */
  readonly learned: number;
}

/** Batches of rows. */
export interface RowBatches extends Batches<TokenBatch> {
  /** Batches of an epoch; null where only reading all would tell. */
  readonly steps: number | null;
  /** What the first buffer holds: all there is where `steps` is known. */
  readonly first: SampleCounts;
  /** The batch of a step, counted from 1. */
  at(step: number): Promise<TokenBatch>;
  /** The batches from a step on, without end. */
  from(step: number): AsyncGenerator<TokenBatch, never, undefined>;
}

/** Bytes of a buffer. */
const BUFFER = 2 ** 26;

/** What a group of samples is called among the counters of random numbers, which are those of epochs otherwise. */
const GROUP = 2 ** 31;

/**
 * Makes batches of samples. The blocks of an epoch are shuffled and read until a buffer is full, and the samples of the buffer
 * are shuffled among each other. While its batches are used, the next buffer is filled. All of it follows from the seed and
 * the step. The batches of a later step are found by making the samples of the buffers before it, once.
 *
 * Padded: samples of about the same length share a batch. Packed: as many samples share a row as {@link bestFit} finds room
 * for. Windows: the samples of a buffer are one stream. The last batch of a buffer may have rows without a sample.
 *
 * @param source The samples
 * @param options Sizes, seed, what a row is
 * @returns The batches, once the first buffer is full
 * @throws {InputError} When a size is out of range, or no sample has a token to learn
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import {
 *   encodeExample, encodeHere, loadTokenizer, memoryFileSystem, openRows, rowBatches, sampleSource,
 * } from "@firn/train/data";
 *
 * const row = { prompt: "The state of the", completion: " union" };
 * const fileSystem = memoryFileSystem({ "rows.jsonl": `${JSON.stringify(row)}\n`.repeat(5) });
 * const rows = await openRows("rows.jsonl", { fileSystem });
 * const tokenizer = await loadTokenizer("examples/models/sotu");
 * const source = sampleSource(rows, { encode: encodeHere((example) => encodeExample(tokenizer, example)) });
 * const batches = await rowBatches(source, { length: 32, batch: 2, seed: 1 });
 * assertEquals([batches.count, batches.steps], [5, 3]);
 * assertEquals((await batches.at(1)).inputIds.shape, [2, 16]);
 * ```
 */
export async function rowBatches(source: SampleSource, options: RowBatchesOptions): Promise<RowBatches> {
  const { length, batch, seed = 0, buffer = BUFFER } = options;
  checkSizes({ length, batch, seed });
  const key = keyOf(seed), groups = sampleGroups(source, { key, buffer, ...fitOf(options) });
  const samples = await groups.read(0, 0);
  if (samples.length === 0) throw nothing(options);
  async function plan(epoch: number, group: number): Promise<readonly PlannedBatch[]> {
    const drawn = threefry2x32(key, [epoch, GROUP + group]);
    return planBatches(await groups.read(epoch, group), { ...options, key: drawn });
  }
  const locate = locator(groups, async (epoch, group) => (await plan(epoch, group)).length);
  const first = await plan(0, 0);
  if (first.length === 0) throw nothing(options);
  const rows = first.reduce((n, { rows }) => n + rows.length, 0);
  return {
    count: groups.single ? rows : null,
    steps: groups.single ? first.length : null,
    first: { rows, ...countsOf(samples) },
    fingerprint: fingerprint([
      wordsOf(JSON.stringify([source.fingerprint, { ...options, buffer: groups.single ? null : buffer }])),
      ...samples.slice(0, 256).flatMap(({ ids, learned }) => [ids, Int32Array.from(learned)]),
    ]),
    async at(step) {
      const { epoch, group, index } = await locate(step);
      return collate((await plan(epoch, group))[index], options);
    },
    async *from(step) {
      let { epoch, group, index } = await locate(step), next: Promise<readonly PlannedBatch[]> | null = null;
      while (true) {
        const batches: readonly PlannedBatch[] = await (next ?? plan(epoch, group));
        [epoch, group] = group + 1 < groups.count(epoch) ? [epoch, group + 1] : [epoch + 1, 0];
        // Samples that are all in memory are planned in no time, so that only others are begun early.
        next = groups.single ? null : plan(epoch, group);
        // What goes wrong is told when its turn comes.
        next?.catch(() => {});
        for (; index < batches.length; index++) yield collate(batches[index], options);
        index = 0;
      }
    },
  };
}

/**
 * Makes batches of one shape for evaluation: each sample once, in order.
 *
 * @param source The samples
 * @param options Sizes, what a row is; `tokens`: at most about how many; all when absent. They are all in memory
 * @returns The batches
 * @throws {InputError} When a size is out of range, or no sample has a token to predict
 */
export async function evaluationBatches(
  source: SampleSource,
  { tokens = Infinity, ...options }: RowBatchesOptions & { readonly tokens?: number },
): Promise<readonly TokenBatch[]> {
  const { length, batch } = options, taken: Sample[] = [];
  checkSizes({ length, batch, seed: 0 });
  let count = 0;
  for (let block = 0; block < source.blocks.length && count < tokens; block++) {
    for (const sample of fitSamples(await source.read(block), fitOf(options))) {
      if (count >= tokens) break;
      taken.push(sample);
      count += sample.ids.length;
    }
  }
  const planned = planBatches(taken, options);
  if (planned.length === 0) throw nothing(options);
  return planned.map((one) => collate(one, options));
}

/** What samples are made to fit: a row, but for a stream that is cut into rows. */
function fitOf(
  { windows, length, long = "cutEnd" }: RowBatchesOptions,
): { readonly length: number; readonly long: Long } {
  return windows ? { length: Infinity, long } : { length, long };
}

function nothing({ length, windows = false }: RowBatchesOptions): InputError {
  if (windows) {
    return new InputError(
      `Cannot make batches as the texts must fill ${
        counted(length, "token")
      }: they do not; give more text, or lower "length"`,
    );
  }
  return new InputError(
    `Cannot make batches as a sample must have a token to learn within ${
      counted(length, "token")
    }: none has; raise "length", or give rows with answers`,
  );
}

/** Finds the group of a step. How many batches a group has is remembered. */
function locator(
  groups: SampleGroups,
  batchesOf: (epoch: number, group: number) => Promise<number>,
): (step: number) => Promise<{ readonly epoch: number; readonly group: number; readonly index: number }> {
  const known = new Map<string, number>();
  const countOf = async (epoch: number, group: number): Promise<number> => {
    const name = `${epoch}/${group}`;
    if (!known.has(name)) known.set(name, await batchesOf(epoch, group));
    return known.get(name)!;
  };
  return async (step) => {
    checkStep(step);
    let index = step - 1, epoch = 0;
    if (groups.single) {
      // Every epoch has as many batches as the first.
      const count = await countOf(0, 0);
      return { epoch: Math.floor(index / count), group: 0, index: index % count };
    }
    for (let group = 0;; group++) {
      if (group === groups.count(epoch)) [epoch, group] = [epoch + 1, 0];
      const count = await countOf(epoch, group);
      if (index < count) return { epoch, group, index };
      index -= count;
    }
  };
}

function countsOf(samples: readonly Sample[]): Omit<SampleCounts, "rows"> {
  const sum = (of: (sample: Sample) => number): number => samples.reduce((n, sample) => n + of(sample), 0);
  return {
    samples: samples.length,
    tokens: sum(({ ids }) => ids.length),
    learned: sum(({ learned }) => learned.subarray(1).reduce((a, b) => a + b, 0)),
  };
}
