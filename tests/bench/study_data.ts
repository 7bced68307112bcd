/**
 * Rows of token ids for the study, and batches of them.
 *
 * Axes: B batch, T time.
 *
 * @module
 */

import { type ClassBatch, DataError, tensor, type TokenBatch } from "@firn/train";
import { hostFileSystem } from "@firn/train/data";
import { IGNORE } from "@firn/train/ops";
import { allBatches, type BatchSizes, shuffledBatches } from "../../examples/text_batches.ts";
import { draws, shuffled } from "../../examples/shuffle.ts";
import type { StudyTask } from "./study_plan.ts";
import { imageBatchOf, questionBatchOf } from "./study_scratch.ts";

/**
 * Token ids behind one number: the class of the row, or the index of the first id that is learned. The host holds them all in
 * memory, and a file is a list of lists.
 */
export type StudyRow = readonly number[];

/** Rows for a task. */
export interface StudyData {
  /** Names of the classes; null where the next token is learned. */
  readonly classes: readonly string[] | null;
  readonly train: readonly StudyRow[];
  /** By which rates are chosen; early stopping ends by the first rows. */
  readonly validation: readonly StudyRow[];
  /** By which nothing decides. */
  readonly test: readonly StudyRow[];
}

/** A batch of any task. */
export type StudyBatch = TokenBatch | ClassBatch;

/**
 * Reads the rows of a task.
 *
 * @param folder Where `study_prepare.ts` wrote them
 * @param name Of the data
 * @param options `rows`: how many are trained on at least
 * @returns The rows
 * @throws {DataError} When the file holds something else, or too few rows
 */
export async function readData(
  folder: string,
  name: string,
  { rows = 0 }: { readonly rows?: number } = {},
): Promise<StudyData> {
  const path = `${folder}/${name}.json`;
  const data = JSON.parse(new TextDecoder().decode(await hostFileSystem().read(path)));
  if (!Array.isArray(data?.train) || !Array.isArray(data.test)) {
    throw new DataError(`Cannot read "${path}" as it must hold "train" and "test": run study.ts --prepare`);
  }
  if (data.train.length >= rows) return data;
  throw new DataError(
    `Cannot read "${path}" as it must hold ${rows} rows to train on: it holds ${data.train.length}; run study.ts --prepare`,
  );
}

/** What rows are, and batches of them. */
export type RowKind = "tokens" | "classes" | "images" | "questions";

/** What the rows of a task are. */
export function kindOf(model: StudyTask["model"], { classes }: Pick<StudyData, "classes">): RowKind {
  if (model === "vit") return "images";
  if (model === "smolvlm") return "questions";
  return classes === null ? "tokens" : "classes";
}

/** Batches of all kinds but of classes of texts. */
const MAKE = {
  tokens: tokenBatchOf,
  images: imageBatchOf as unknown as typeof tokenBatchOf,
  questions: questionBatchOf,
};

/** Batches of rows of which the next token is learned: padded on the right, without a mask, as nothing looks ahead. */
function tokenBatchOf(rows: readonly StudyRow[], { batch, length, padding }: BatchSizes): TokenBatch {
  const ids = new Int32Array(batch * length).fill(padding),
    labels = new Int32Array(batch * length).fill(IGNORE);
  rows.forEach(([from, ...own], row) => {
    const cut = own.slice(0, length);
    ids.set(cut, row * length);
    labels.set(cut.slice(from), row * length + from);
  });
  return { inputIds: tensor(ids, [batch, length]), labels: tensor(labels, [batch, length]) };
}

const classRow = ([label, ...ids]: StudyRow): { ids: readonly number[]; label: number } => ({ label, ids });

/** All rows once, in order; the last batch is filled up. */
export function everyBatch(
  rows: readonly StudyRow[],
  { kind, ...sizes }: BatchSizes & { readonly kind: RowKind },
): StudyBatch[] {
  if (kind === "classes") return allBatches(rows.map(classRow), sizes);
  return Array.from(
    { length: Math.ceil(rows.length / sizes.batch) },
    (_, b) => MAKE[kind](rows.slice(b * sizes.batch, (b + 1) * sizes.batch), sizes),
  );
}

/** Batches to train on, without end: each epoch has every row once, in an order of its own. */
export function* trainBatches(
  rows: readonly StudyRow[],
  { kind, seed, ...sizes }: BatchSizes & { readonly kind: RowKind; readonly seed: number },
): Generator<StudyBatch, never, undefined> {
  if (kind === "classes") return yield* shuffledBatches(rows.map(classRow), { ...sizes, seed });
  for (let left: StudyRow[] = [], epoch = 0;;) {
    while (left.length < sizes.batch) {
      const order = shuffled(rows.length, draws(`order ${seed} ${epoch++}`));
      left.push(...Array.from(order, (i) => rows[i]));
    }
    yield MAKE[kind](left.slice(0, sizes.batch), sizes);
    left = left.slice(sizes.batch);
  }
}
