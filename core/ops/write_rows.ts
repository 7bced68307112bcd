/**
 * Rows written into the buffer of a leaf.
 *
 * @module
 */

import { writeRows as writeRowsKernel } from "../../kernels/write_rows.ts";
import { ShapeError } from "../errors.ts";
import { sameShape, sizeOf } from "../spec.ts";
import { apply, type Op, type Tensor } from "../tensor.ts";

/**
 * Inputs: a leaf [B, S, ...], rows [B, T, ...] and places i32 [B]. The output is the leaf with its new rows, in the same
 * buffer: the planner gives both one buffer, and every other reader of the leaf runs first.
 */
const writeRowsOp: Op<null> = {
  name: "writeRows",
  inPlace: 1,
  infer([into, rows, at]) {
    const fits = into.shape.length >= 2 && rows.shape.length === into.shape.length &&
      sameShape(rows.shape.with(1, into.shape[1]), into.shape) && rows.dtype === into.dtype &&
      at.dtype === "i32" && sameShape(at.shape, [into.shape[0]]);
    if (fits) return [{ shape: into.shape, dtype: into.dtype }];
    throw new ShapeError("writeRows", "rows must be [B, T, ...] of a leaf [B, S, ...], and places i32 [B]", [
      into.shape,
      rows.shape,
      at.shape,
    ]);
  },
  pullbacks: [null],
  kernel({ inputs: [{ shape: [batch, capacity, ...rest], dtype }, { shape: [, time] }] }) {
    const type = dtype as "f32" | "i32" | "u32";
    return {
      kernel: writeRowsKernel({ batch, time, capacity, width: sizeOf(rest), type }),
      reads: [1, 2],
    };
  },
};

/**
 * Writes rows into a leaf, in place: row t of a sequence becomes its row `t + at`. Rows beyond the last are dropped.
 *
 * @param into The leaf, [B, S, ...]
 * @param options `rows`: [B, T, ...] of its dtype; `at`: i32 [B], the place of the first row in each sequence
 * @returns The leaf after that, [B, S, ...]
 * @throws {ShapeError} When the shapes do not fit
 */
export function writeRows(
  into: Tensor,
  { rows, at }: { readonly rows: Tensor; readonly at: Tensor },
): Tensor {
  return apply(writeRowsOp, [into, rows, at], null);
}
