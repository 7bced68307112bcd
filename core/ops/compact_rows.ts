/**
 * Compaction: labelled rows move to the front, so that later products can skip the ignored ones.
 *
 * Legend: N rows, C channels, R rows of a chunk.
 *
 * @module
 */

import {
  compactOrder as compactOrderKernel,
  gatherRows as gatherRowsKernel,
  scatterRows as scatterRowsKernel,
} from "../../kernels/compact_rows.ts";
import { apply, MOVES, type Op, pick, type PullbackContext, type Tensor } from "../tensor.ts";
import { cast } from "./arithmetic.ts";
import { equal, where } from "./comparison.ts";
import { IGNORE } from "./cross_entropy.ts";
import { f16Bindings } from "./half_precision.ts";
import { pad, reshape } from "./movement.ts";

/** Input: labels [N]. Outputs: the order u32 [N], labelled rows first, and their number, u32 [1]. */
export const compactOrderOp: Op<null> = {
  name: "compactOrder",
  infer: ([labels]) => [{ shape: labels.shape, dtype: "u32" }, { shape: [1], dtype: "u32" }],
  kernel: ({ inputs: [labels] }) => ({
    kernel: compactOrderKernel({ rows: labels.shape[0], ignore: IGNORE }),
    writes: [0, 1],
  }),
};

/** A range of places in an order. */
export interface Places {
  readonly start: number;
  readonly count: number;
}

/**
 * Inputs: x [N, C], labels [N], an order, and the number of labelled rows. Outputs: the rows x [R, C] at a range of places,
 * zero where ignored, their labels [R], and the number of labelled ones, u32 [1].
 */
export const gatherRowsOp: Op<Places> = {
  name: "gatherRows",
  half: MOVES,
  infer: ([x], { count }) => [
    { shape: [count, x.shape[1]], dtype: "f32" },
    { shape: [count], dtype: "i32" },
    { shape: [1], dtype: "u32" },
  ],
  pullbacks: [gatherGradient, "flat"],
  kernel({ inputs, outputs, attrs }) {
    const [rows, width] = inputs[0].shape, f16 = f16Bindings(inputs, outputs);
    return {
      kernel: gatherRowsKernel({ rows, width, ignore: IGNORE, f16, ...attrs }),
      writes: [0, 1, 2],
    };
  },
};

/**
 * Inputs: x [N, C], an order [N], and the labels [N] and the number of labelled rows, which its gradient reads. Output: the rows
 * back in their original places. No gradient flows to ignored rows, which are zeros.
 */
export const scatterRowsOp: Op<null> = {
  name: "scatterRows",
  half: MOVES,
  infer: ([x]) => [{ shape: x.shape, dtype: "f32" }],
  pullbacks: [
    ({ inputs: [x, order, labels, count], gradient }) =>
      apply(gatherRowsOp, [gradient, labels, order, count], { start: 0, count: x.shape[0] }),
    "flat",
  ],
  kernel({ inputs, outputs }) {
    const [rows, width] = inputs[0].shape;
    const f16 = f16Bindings(inputs.slice(0, 2), outputs);
    return { kernel: scatterRowsKernel({ rows, width, f16 }), reads: [0, 1] };
  },
};

/** Rows go back to where they came from; the others get zeros. */
function gatherGradient(
  { inputs, output, gradient, attrs: { start, count } }: PullbackContext<Places>,
): Tensor {
  const [x, labels, order, labelled] = inputs, rest = x.shape[0] - start - count;
  const ignored = equal(reshape(cast(pick(output, 1)), [count, 1]), IGNORE);
  const all = pad(where(ignored, 0, gradient), { before: [start, 0], after: [rest, 0] });
  return apply(scatterRowsOp, [all, order, labels, labelled], null);
}
