/**
 * Rows of a table by position, as learned positions are.
 *
 * @module
 */

import { ShapeError } from "../errors.ts";
import { apply, type Op, type Tensor } from "../tensor.ts";
import { broadcast } from "./broadcast.ts";
import { slice } from "./movement.ts";

/** Attributes of {@link positionRowsOp}. */
export interface PositionRowsAttrs {
  readonly batch: number;
  readonly time: number;
}

/** Input: a table [P, C]. Output: its first T rows for each sequence, [B, T, C]. */
export const positionRowsOp: Op<PositionRowsAttrs> = {
  name: "positionRows",
  infer([{ shape }], { batch, time }) {
    if (shape.length === 2 && shape[0] >= time) return [{ shape: [batch, time, shape[1]], dtype: "f32" }];
    throw new ShapeError("positionRows", `the table must be [at least ${time}, C]`, [shape]);
  },
  definition([table], { batch, time }) {
    const width = table.shape[1];
    return [broadcast(slice(table, { starts: [0, 0], sizes: [time, width] }), [batch, time, width])];
  },
};

/**
 * The row of each position of sequences that begin at position 0.
 *
 * @param table f32 [P, C], P positions
 * @param ids Ids of tokens, [B, T]
 * @returns f32 [B, T, C]
 * @throws {ShapeError} When the table has fewer rows than a sequence has tokens
 */
export function positionRows(table: Tensor, { shape: [batch, time] }: Tensor): Tensor {
  return apply(positionRowsOp, [table], { batch, time });
}
