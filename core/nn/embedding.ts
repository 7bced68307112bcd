/**
 * Tables of rows by id.
 *
 * @module
 */

import { embedding as embeddingOp } from "../ops/embedding.ts";
import type { Tensor } from "../tensor.ts";
import { normal, type ParamSpec } from "./params.ts";

/** A table, named as in PyTorch. */
export interface Embedding<T> {
  /** f32 or bf16 [V, C]. */
  readonly weight: T;
}

/** Declaration of a table. */
export type EmbeddingSpec = Embedding<ParamSpec>;

/**
 * Declares a table.
 *
 * @param sizes Rows and channels
 * @returns The declaration
 */
export function embeddingParams([rows, size]: readonly [rows: number, size: number]): EmbeddingSpec {
  return { weight: normal([rows, size]) };
}

/**
 * Looks up rows.
 *
 * @param ids i32 [...]
 * @param params The table
 * @returns f32 [..., C]
 */
export function embedding(ids: Tensor, { weight }: Embedding<Tensor>): Tensor {
  return embeddingOp(weight, ids);
}
