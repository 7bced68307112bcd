/**
 * Batches of token windows. Each is a pure function of the seed and the step, so a resumed run sees the same batches.
 *
 * Axes: B batch, T time.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { InputError } from "../errors.ts";
import { fingerprint } from "../fingerprint.ts";
import type { TokenBatch } from "../models/tasks.ts";
import { IGNORE } from "../ops/cross_entropy.ts";
import { tensor } from "../sources.ts";
import { keyOf, permutation } from "./samples/permutation.ts";

/** Tokens of a batch: no device has the memory for more, and no list of JavaScript for 16 times as many. */
const MOST_TOKENS = 2 ** 28;

/** Options of {@link tokenWindows}. */
export interface TokenWindowsOptions {
  /** Tokens in a window, T, at least 2. */
  readonly length: number;
  /** Windows in a batch, B. */
  readonly batch: number;
  /** Seed of the order, a whole number from 0; 0 when absent. */
  readonly seed?: number;
}

/** Batches by step. Each is a function of its step alone, so that a resumed run sees the same. */
export interface Batches<B extends object> {
  /** Rows, or windows, of an epoch; null where only reading all would tell. */
  readonly count: number | null;
  /** Fingerprint of the data and of how batches are made of it, for the option `data` of training. */
  readonly fingerprint: string;
  /** The batch of a step, counted from 1. */
  at(step: number): B | Promise<B>;
  /** The batches from a step on, without end. */
  from(step: number): Iterable<B> | AsyncIterable<B>;
}

/** A stream of tokens cut into windows. */
export interface TokenWindows extends Batches<TokenBatch> {
  /** Whole windows in the stream. An epoch takes `count / batch` steps. */
  readonly count: number;
  /** The batch of a step, counted from 1. Windows are shuffled in each epoch. */
  at(step: number): TokenBatch;
  /** The batches from a step on, without end. */
  from(step: number): Generator<TokenBatch, never, undefined>;
  /** Every window once, in order, for evaluation. The last batch is padded with label -100. */
  all(): readonly TokenBatch[];
}

/**
 * Cuts a stream of tokens into windows that do not overlap, and shuffles them in each epoch.
 *
 * @param ids The stream
 * @param options Sizes and seed
 * @returns Batches of i32 [B, T], by step
 * @throws {InputError} When the stream is shorter than one window, or a size is not a whole number above 0
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tokenWindows } from "@firn/train/data";
 *
 * const windows = tokenWindows(new Int32Array(100), { length: 8, batch: 2, seed: 1 });
 * assertEquals(windows.count, 12);
 * assertEquals(windows.at(1).inputIds.shape, [2, 8]);
 * assertEquals(windows.all().length, 7);
 * ```
 */
export function tokenWindows(
  ids: Int32Array,
  { length, batch, seed = 0 }: TokenWindowsOptions,
): TokenWindows {
  checkSizes({ length, batch, seed });
  const count = Math.floor(ids.length / length);
  if (count === 0) {
    const mend = ids.length < 2 ? "give more text" : `give more text, or a "length" of at most ${ids.length}`;
    throw new InputError(
      `Cannot cut windows of ${
        counted(length, "token")
      } as the text must fill one: it has ${ids.length}; ${mend}`,
    );
  }
  const key = keyOf(seed);
  let order = { epoch: -1, indices: new Uint32Array() };
  function windowAt(position: number): number {
    const epoch = Math.floor(position / count);
    if (order.epoch !== epoch) order = { epoch, indices: permutation(count, { key, epoch }) };
    return order.indices[position % count];
  }
  function batchOf(windows: readonly number[]): TokenBatch {
    const inputIds = new Int32Array(batch * length);
    const labels = new Int32Array(batch * length).fill(IGNORE);
    windows.forEach((window, row) => {
      const tokens = ids.subarray(window * length, (window + 1) * length);
      inputIds.set(tokens, row * length);
      labels.set(tokens, row * length);
    });
    return { inputIds: tensor(inputIds, [batch, length]), labels: tensor(labels, [batch, length]) };
  }
  function at(step: number): TokenBatch {
    checkStep(step);
    return batchOf(Array.from({ length: batch }, (_, row) => windowAt((step - 1) * batch + row)));
  }
  return {
    count,
    fingerprint: fingerprint([ids, length, batch, seed, Math.floor(seed / 2 ** 32)]),
    at,
    *from(step) {
      while (true) yield at(step++);
    },
    all() {
      // A last window of one token predicts nothing.
      const windows = count + (ids.length % length > 1 ? 1 : 0);
      return Array.from(
        { length: Math.ceil(windows / batch) },
        (_, i) =>
          batchOf(Array.from({ length: Math.min(batch, windows - i * batch) }, (_, row) => i * batch + row)),
      );
    },
  };
}

/**
 * Refuses sizes of batches that are out of range.
 *
 * @param sizes Tokens of a row, rows, seed
 * @throws {InputError} When one is
 */
export function checkSizes({ length, batch, seed }: Required<TokenWindowsOptions>): void {
  if (!(Number.isSafeInteger(length) && length >= 2)) {
    throw new InputError(`Cannot make batches as "length" must be a whole number above 1: got ${length}`);
  }
  if (!(Number.isSafeInteger(batch) && batch >= 1)) {
    throw new InputError(`Cannot make batches as "batch" must be a whole number above 0: got ${batch}`);
  }
  if (length * batch > MOST_TOKENS) {
    throw new InputError(
      `Cannot make batches as a batch may have ${MOST_TOKENS} tokens: ${batch} of ${length} have ${
        length * batch
      }; ` +
        'lower "batch" or "length"',
    );
  }
  if (!(Number.isSafeInteger(seed) && seed >= 0)) {
    throw new InputError(`Cannot make batches as "seed" must be a whole number from 0: got ${seed}`);
  }
}

/**
 * Refuses a step that is none.
 *
 * @param step The step
 * @throws {InputError} When it is no whole number from 1
 */
export function checkStep(step: number): void {
  if (!(Number.isSafeInteger(step) && step >= 1)) {
    throw new InputError(
      `Cannot take the batch of step ${step} as steps are whole numbers from 1: use state.step + 1`,
    );
  }
}
