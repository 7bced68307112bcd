/**
 * Labelled texts as batches of token ids.
 *
 * Axes: B batch, T time.
 *
 * @module
 */

import { type ClassBatch, tensor } from "@firn/train";
import { encodeDocument, type Tokenizer } from "@firn/train/data";
import type { Example } from "./labelled_text.ts";
import { draws, shuffled } from "./shuffle.ts";

/** A text as ids, and its class. */
export interface Row {
  readonly ids: readonly number[];
  /** Index of the class. */
  readonly label: number;
}

/**
 * The ids of a text. What ends a text ends one that is cut, too.
 *
 * @param tokenizer The tokenizer
 * @param text The text
 * @param most How many ids it may have
 * @returns The ids
 */
export function cutIds(tokenizer: Tokenizer, text: string, most: number): readonly number[] {
  // Of a long text only the beginning is encoded, as much as is needed, up to a space: it has the ids that all of it begins with.
  for (let characters = 8 * most;; characters *= 2) {
    const whole = characters >= text.length, space = text.lastIndexOf(" ", characters);
    const ids = encodeDocument(tokenizer, whole || space < 1 ? text : text.slice(0, space));
    if (ids.length > most) return [...ids.slice(0, most - 1), ids.at(-1)!];
    if (whole || space < 1) return ids;
  }
}

/**
 * Encodes examples.
 *
 * @param examples The texts
 * @param options The tokenizer, names of classes, and tokens in a text
 * @returns A row for each
 */
export function encodeRows(
  examples: readonly Example[],
  { tokenizer, names, length }: {
    readonly tokenizer: Tokenizer;
    readonly names: readonly string[];
    readonly length: number;
  },
): Row[] {
  return examples.map(({ text, label }) => ({
    ids: cutIds(tokenizer, text, length),
    label: names.indexOf(label),
  }));
}

/** Sizes of batches. */
export interface BatchSizes {
  /** Texts in a batch B. */
  readonly batch: number;
  /** Tokens in a text T. */
  readonly length: number;
  /** The id that fills a row. */
  readonly padding: number;
}

/**
 * A batch of rows: ids padded on the right, the mask, and labels, -100 in rows that fill the batch.
 *
 * @param rows At most B rows
 * @param sizes Sizes
 * @returns i32 [B, T], [B, T] and [B]
 */
export function batchOf(rows: readonly Row[], { batch, length, padding }: BatchSizes): ClassBatch {
  const ids = new Int32Array(batch * length).fill(padding), mask = new Int32Array(batch * length);
  const labels = new Int32Array(batch).fill(-100);
  for (let i = 0; i < batch; i++) {
    const row = rows[i] ?? { ids: [padding], label: -100 };
    ids.set(row.ids, i * length);
    mask.fill(1, i * length, i * length + row.ids.length);
    labels[i] = row.label;
  }
  const shape = [batch, length];
  return { inputIds: tensor(ids, shape), attentionMask: tensor(mask, shape), labels: tensor(labels) };
}

/**
 * All rows once, in order.
 *
 * @param rows The rows
 * @param sizes Sizes of batches
 * @returns The batches; the last one is filled up
 */
export function allBatches(rows: readonly Row[], sizes: BatchSizes): ClassBatch[] {
  return Array.from(
    { length: Math.ceil(rows.length / sizes.batch) },
    (_, b) => batchOf(rows.slice(b * sizes.batch, (b + 1) * sizes.batch), sizes),
  );
}

/**
 * Batches to train on, without end: each epoch has every row once, in an order of its own.
 *
 * @param rows The rows
 * @param options Sizes of batches, and the seed of the order
 * @returns The batches
 */
export function* shuffledBatches(
  rows: readonly Row[],
  { seed, ...sizes }: BatchSizes & { readonly seed: number },
): Generator<ClassBatch, never, undefined> {
  for (let left: Row[] = [], epoch = 0;;) {
    while (left.length < sizes.batch) {
      const order = shuffled(rows.length, draws(`order ${seed} ${epoch++}`));
      left.push(...Array.from(order, (i) => rows[i]));
    }
    yield batchOf(left.slice(0, sizes.batch), sizes);
    left = left.slice(sizes.batch);
  }
}
