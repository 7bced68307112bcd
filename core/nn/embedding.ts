/**
 * Tables of rows by id.
 *
 * @module
 */

import { embedding as embeddingOp } from "../ops/embedding.ts";
import { permute, reshape, slice } from "../ops/movement.ts";
import { positionRows } from "../ops/position_rows.ts";
import { sizeOf } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { loraSettings, withPair } from "./lora.ts";
import { normal, type ParamSpec } from "./params.ts";
import { segmentPositions } from "./segments.ts";

/** A table, named as in PyTorch. */
export interface Embedding<T> {
  /** f32, or stored in fewer bytes, [V, C]. */
  readonly weight: T;
  /** f32 [r, V]; an adapter adds it. */
  readonly lora_embedding_A?: T;
  /** f32 [C, r]; an adapter adds it. */
  readonly lora_embedding_B?: T;
  /** f32 [C]; an adapter with DoRA adds it. */
  readonly lora_magnitude_vector?: T;
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
  return { weight: { ...normal([rows, size]), use: "table" } };
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
  params: Embedding<Tensor>,
  options: { readonly padding?: number | null } = {},
): Tensor {
  return adapted(params, (table) => embeddingOp(table, ids, options));
}

/**
 * The first rows of a table, such as those of positions.
 *
 * @param params The table
 * @param count How many, T
 * @returns f32 [T, C]
 */
export function firstRows(params: Embedding<Tensor>, count: number): Tensor {
  return adapted(params, (table) => slice(table, { starts: [0, 0], sizes: [count, table.shape[1]] }));
}

/**
 * The row of each position of sequences that begin at position 0.
 *
 * @param ids Ids of tokens, [B, T]
 * @param params The table
 * @param options `segments`: the documents of packed rows, i32 [B, T], in each of which positions begin at 0; a row is one
 * when absent
 * @returns f32 [B, T, C]
 */
export function positionEmbedding(
  ids: Tensor,
  params: Embedding<Tensor>,
  { segments }: { readonly segments?: Tensor } = {},
): Tensor {
  if (segments !== undefined) return embedding(segmentPositions(segments), params);
  return adapted(params, (table) => positionRows(table, ids));
}

/** Rows of a table with its pair: a linear layer whose input is one of V. */
function adapted(table: Embedding<Tensor>, rowsOf: (table: Tensor) => Tensor): Tensor {
  const { weight, lora_embedding_A: a, lora_embedding_B: b, lora_magnitude_vector: magnitude } = table;
  const rows = rowsOf(weight);
  if (a === undefined || b === undefined) return rows;
  const flat = (x: Tensor): Tensor => reshape(x, [sizeOf(x.shape) / x.shape.at(-1)!, x.shape.at(-1)!]);
  const low = flat(rowsOf(permute(a, [1, 0]))), { scale } = loraSettings(table) ?? { scale: 1 };
  const y = withPair({ a, b, magnitude }, { y: flat(rows), low, weight, layout: "inOut", scale });
  return reshape(y, rows.shape);
}
