/**
 * Rows that count, moved to the front: what follows can leave the others out.
 *
 * Legend: N rows, C channels, R rows of a chunk.
 *
 * @module
 */

import {
  countedFirst as countedFirstKernel,
  gatherCounted as gatherCountedKernel,
  spreadRows as spreadRowsKernel,
} from "../../kernels/compact_rows.ts";
import type { Op } from "../tensor.ts";
import { IGNORE } from "./cross_entropy.ts";
import { f16Bindings } from "./half_precision.ts";

/** Input labels [N]; outputs the order u32 [N], rows that count first, and how many do, u32 [1]. */
export const countedFirstOp: Op<null> = {
  name: "countedFirst",
  infer: ([labels]) => [{ shape: labels.shape, dtype: "u32" }, { shape: [1], dtype: "u32" }],
  kernel: ({ inputs: [labels] }) => ({
    kernel: countedFirstKernel({ rows: labels.shape[0], ignore: IGNORE }),
    writes: [0, 1],
  }),
};

/** Places of an order. */
export interface Places {
  readonly start: number;
  readonly count: number;
}

/**
 * Inputs x [N, C], labels [N], an order and how many rows count; outputs the rows x [R, C] at some places, zeros where
 * they do not count, their labels [R], and how many of them count, u32 [1].
 */
export const gatherCountedOp: Op<Places> = {
  name: "gatherCounted",
  infer: ([x], { count }) => [
    { shape: [count, x.shape[1]], dtype: "f32" },
    { shape: [count], dtype: "i32" },
    { shape: [1], dtype: "u32" },
  ],
  kernel({ inputs, outputs, attrs }) {
    const [rows, width] = inputs[0].shape, f16 = f16Bindings(inputs, outputs);
    return {
      kernel: gatherCountedKernel({ rows, width, ignore: IGNORE, f16, ...attrs }),
      writes: [0, 1, 2],
    };
  },
};

/** Inputs x [N, C] and an order [N]; output the rows back in their places. */
export const spreadRowsOp: Op<null> = {
  name: "spreadRows",
  infer: ([x]) => [{ shape: x.shape, dtype: "f32" }],
  kernel({ inputs, outputs }) {
    const [rows, width] = inputs[0].shape;
    return { kernel: spreadRowsKernel({ rows, width, f16: f16Bindings(inputs, outputs) }) };
  },
};
