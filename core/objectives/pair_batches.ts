/**
 * Pairs of answers as batches.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { threefry2x32 } from "../../kernels/random.ts";
import { type Batches, checkSizes, checkStep } from "../data/batches.ts";
import { padSamples } from "../data/samples/collate.ts";
import { keyOf } from "../data/samples/permutation.ts";
import { type BatchShape, planBatches, type PlannedBatch } from "../data/samples/plan_batches.ts";
import type { Sample } from "../data/samples/sample.ts";
import { InputError } from "../errors.ts";
import { fingerprint } from "../fingerprint.ts";
import { tensor } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import type { SamplePair } from "./pair_samples.ts";
import type { PairBatch } from "./pairs.ts";

/** Options of {@link pairBatches}. */
export interface PairBatchesOptions extends Omit<BatchShape, "pack" | "windows"> {
  /** Pairs of a batch, which has twice as many rows. */
  readonly batch: number;
  /** Seed of the order, a whole number from 0; 0 when absent. */
  readonly seed?: number;
}

/** A batch of pairs with all that the pairs have. */
export interface FullPairBatch extends PairBatch {
  /** f32 [2 B]: 1 where an answer is good; where pairs say so. */
  readonly desirable: Tensor;
  /** f32 [2 B]: how far apart rewards should be; 0 where pairs do not say it. */
  readonly margin: Tensor;
}

/** Batches of pairs by step. */
export interface PairBatches extends Batches<FullPairBatch> {
  /** Pairs. */
  readonly count: number;
  /** Batches of an epoch. */
  readonly steps: number;
  /** The batch of a step, counted from 1. */
  at(step: number): FullPairBatch;
  /** The batches from a step on, without end. */
  from(step: number): Generator<FullPairBatch, never, undefined>;
  /** Each pair once, in order and in one shape, for evaluation. */
  all(): readonly FullPairBatch[];
}

/**
 * Makes batches of pairs, which are shuffled in each epoch. Pairs of about the same length share a batch, which is padded on the
 * right. The last batch of an epoch may have pairs without labels, which do not count.
 *
 * @param pairs The pairs
 * @param options Sizes, seed
 * @returns The batches
 * @throws {InputError} When a size is out of range, or there is no pair
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { countPairs, pairBatches } from "@firn/train/objectives";
 *
 * const sample = (...ids: number[]) => ({ ids: Int32Array.from(ids), learned: Uint8Array.from(ids, (_, i) => i > 0 ? 1 : 0) });
 * const pairs = [1, 2, 3].map((id) => ({ first: sample(id, 7, 8), second: sample(id, 9) }));
 * const batches = pairBatches(pairs, { length: 4, batch: 2, seed: 1 });
 * assertEquals([batches.count, batches.steps, batches.at(1).inputIds.shape], [3, 2, [4, 4]]);
 * assertEquals(batches.all().map(countPairs), [2, 1]);
 * ```
 */
export function pairBatches(pairs: readonly SamplePair[], options: PairBatchesOptions): PairBatches {
  const { length, batch, seed = 0 } = options;
  checkSizes({ length, batch, seed });
  if (pairs.length === 0) {
    throw new InputError(
      `Cannot make batches as a pair must have two answers within ${
        counted(length, "token")
      }: none has; raise "length"`,
    );
  }
  const key = keyOf(seed), longer = new Map(pairs.map((pair): [Sample, SamplePair] => [longest(pair), pair]));
  const samples = [...longer.keys()];
  const make = ({ rows, length }: PlannedBatch): FullPairBatch =>
    collatePairs(rows.map(([sample]) => longer.get(sample)!), { ...options, length });
  let last = { epoch: -1, planned: [] as readonly PlannedBatch[] };
  const planOf = (epoch: number): readonly PlannedBatch[] => {
    if (last.epoch !== epoch) {
      last = { epoch, planned: planBatches(samples, { ...options, key: threefry2x32(key, [epoch, PAIRS]) }) };
    }
    return last.planned;
  };
  const steps = Math.ceil(pairs.length / batch);
  const at = (step: number): FullPairBatch => {
    checkStep(step);
    return make(planOf(Math.floor((step - 1) / steps))[(step - 1) % steps]);
  };
  return {
    count: pairs.length,
    steps,
    fingerprint: fingerprint([...wordsOf(pairs), length, batch, seed, Math.floor(seed / 2 ** 32)]),
    at,
    *from(step) {
      while (true) yield at(step++);
    },
    all: () => planBatches(samples, options).map(make),
  };
}

/** What pairs are called among the counters of random numbers. */
const PAIRS = 2 ** 31 + 2 ** 30;

/** A sample that stands for its pair: another one for each pair, even where pairs share samples. */
function longest({ first, second }: SamplePair): Sample {
  return { ...(first.ids.length >= second.ids.length ? first : second) };
}

/** What pairs hold, for a fingerprint. */
export function wordsOf(pairs: readonly SamplePair[]): (Int32Array | number)[] {
  return pairs.flatMap(({ first, second, desirable, margin = 0 }) => [
    first.ids,
    Int32Array.from(first.learned),
    second.ids,
    Int32Array.from(second.learned),
    desirable === undefined ? 2 : Number(desirable),
    new Int32Array(new Float32Array([margin]).buffer),
  ]);
}

/**
 * Makes a batch of pairs.
 *
 * @param pairs The pairs
 * @param options Sizes, padding
 * @returns All first answers, then all second ones
 */
function collatePairs(
  pairs: readonly SamplePair[],
  { batch, length, pad, mask = false }: PairBatchesOptions,
): FullPairBatch {
  const empty: Sample = { ids: new Int32Array(0), learned: new Uint8Array(0) };
  const missing = Array.from({ length: batch - pairs.length }, () => empty);
  const rows = [
    ...pairs.map(({ first }) => first),
    ...missing,
    ...pairs.map(({ second }) => second),
    ...missing,
  ];
  const numbers = (first: (pair: SamplePair) => number, second = first): Tensor => {
    const values = new Float32Array(2 * batch);
    pairs.forEach((pair, i) => {
      values[i] = first(pair);
      values[batch + i] = second(pair);
    });
    return tensor(values);
  };
  const known = pairs.every(({ reference }) => reference !== undefined);
  return {
    ...padSamples(rows, { length, batch: 2 * batch, pad, mask }),
    desirable: numbers(({ desirable = true }) => Number(desirable)),
    margin: numbers(({ margin = 0 }) => margin),
    ...known && {
      reference: numbers(({ reference }) => reference![0], ({ reference }) => reference![1]),
    },
  };
}
