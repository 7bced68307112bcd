/**
 * Tables of rows by id.
 *
 * @module
 */

import { cast } from "../ops/arithmetic.ts";
import { equal, where } from "../ops/comparison.ts";
import { embedding as embeddingOp } from "../ops/embedding.ts";
import { reshape } from "../ops/movement.ts";
import { stopGradient } from "../ops/stop_gradient.ts";
import type { Tensor } from "../tensor.ts";
import { normal, type ParamSpec } from "./params.ts";

/** A table, named as in PyTorch. */
export interface Embedding<T> {
  /** f32, or stored in fewer bytes, [V, C]. */
  readonly weight: T;
}

/** Declaration of a table. */
export type EmbeddingSpec = Embedding<ParamSpec>;

/**
 * Declares a table.
 *
 * @param sizes Rows and channels
 * @returns The declaration
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { embeddingParams } from "@firn/train/nn";
 *
 * assertEquals(embeddingParams([100, 4]).weight.shape, [100, 4]);
 * ```
 */
export function embeddingParams([rows, size]: readonly [rows: number, size: number]): EmbeddingSpec {
  return { weight: normal([rows, size]) };
}

/**
 * Looks up rows.
 *
 * @param ids i32 [...]
 * @param params The table
 * @param options `padding`: an id whose row is not trained by its use here, as in PyTorch; null or absent for none
 * @returns f32 [..., C]
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "@firn/train";
 * import { embedding } from "@firn/train/nn";
 *
 * const table = { weight: tensor([1, 2, 3, 4], [2, 2]) };
 * assertEquals(embedding(tensor(new Int32Array([1, 0, 1])), table).shape, [3, 2]);
 * ```
 */
export function embedding(
  ids: Tensor,
  { weight }: Embedding<Tensor>,
  { padding = null }: { readonly padding?: number | null } = {},
): Tensor {
  const rows = embeddingOp(weight, ids);
  if (padding === null) return rows;
  const isPadding = reshape(equal(cast(ids), padding), [...ids.shape, 1]);
  return where(isPadding, stopGradient(rows), rows);
}
