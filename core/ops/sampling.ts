/**
 * Choosing from rows of scores on the device.
 *
 * Axes: B rows, V scores of a row.
 *
 * @module
 */

import { rowThreads } from "../../kernels/rows.ts";
import {
  banNgrams as banKernel,
  categorical as categoricalKernel,
  massThreshold as thresholdKernel,
} from "../../kernels/sampling.ts";
import { ShapeError } from "../errors.ts";
import { sameShape, type Spec } from "../spec.ts";
import { apply, type Op, type Tensor } from "../tensor.ts";

function checkRows(op: string, [scores, ...columns]: readonly Spec[]): void {
  const [rows] = scores.shape;
  if (scores.shape.length === 2 && columns.every(({ shape }) => sameShape(shape, [rows]))) return;
  throw new ShapeError(op, "scores must be [B, V], and what belongs to a row [B]", [
    scores.shape,
    ...columns.map(({ shape }) => shape),
  ]);
}

/** Inputs: keys [B, V], mass [B], and weights [B, V], or none where each key weighs 1. */
const massThresholdOp: Op<null> = {
  name: "massThreshold",
  infer([keys, mass, weights]) {
    checkRows("massThreshold", [keys, mass]);
    if (weights !== undefined && !sameShape(weights.shape, keys.shape)) {
      throw new ShapeError("massThreshold", "each key must have a weight", [keys.shape, weights.shape]);
    }
    return [{ shape: mass.shape, dtype: "f32" }];
  },
  pullbacks: ["flat"],
  kernel({ inputs: { 0: { shape: [rows, width] }, length }, target: { software } }) {
    // A sum for each bit.
    const threads = rowThreads(software, width, { reads: 32 });
    return { kernel: thresholdKernel({ rows, width, threads, counted: length === 2 }) };
  },
};

/**
 * The largest threshold of each row such that the keys from it on weigh at least as much as asked.
 *
 * @param keys f32 [B, V]
 * @param options `mass`: f32 [B]; `weights`: f32 [B, V], 1 for each key when absent
 * @returns f32 [B]; the least number where all keys of a row weigh less
 * @throws {ShapeError} When the shapes do not fit
 */
export function massThreshold(
  keys: Tensor,
  { mass, weights }: { readonly mass: Tensor; readonly weights?: Tensor },
): Tensor {
  return apply(massThresholdOp, [keys, mass, ...(weights === undefined ? [] : [weights])], null);
}

/** Inputs: scores [B, V], seeds [B] and places [B]. */
const categoricalOp: Op<{ readonly stream: number }> = {
  name: "categorical",
  infer(inputs) {
    checkRows("categorical", inputs);
    return [{ shape: inputs[1].shape, dtype: "i32" }];
  },
  pullbacks: [null],
  kernel({ inputs: [{ shape: [rows, width] }], attrs, target: { software } }) {
    return {
      kernel: categoricalKernel({
        rows,
        width,
        threads: rowThreads(software, width, { reads: 3 }),
        ...attrs,
      }),
    };
  },
};

/**
 * Draws an index of each row with probability `softmax(scores)`. The same seed and place give the same random number, on every
 * device.
 *
 * @param scores f32 [B, V]; minus infinity excludes an index
 * @param options `seeds`: i32 [B]; `places`: i32 [B], which draw of a seed it is; `stream`: keeps draws apart from others with
 * the same seed
 * @returns i32 [B]
 * @throws {ShapeError} When the shapes do not fit
 */
export function categorical(
  scores: Tensor,
  { seeds, places, stream }: { readonly seeds: Tensor; readonly places: Tensor; readonly stream: number },
): Tensor {
  return apply(categoricalOp, [scores, seeds, places], { stream });
}

/** Inputs: scores [B, V], tokens [B, S], lengths [B] and sizes [B]. */
const banNgramsOp: Op<null> = {
  name: "banNgrams",
  infer([scores, , lengths, sizes]) {
    checkRows("banNgrams", [scores, lengths, sizes]);
    return [{ shape: scores.shape, dtype: "f32" }];
  },
  pullbacks: [null],
  kernel({ inputs: [{ shape: [rows, width] }, { shape: [, capacity] }], target: { software } }) {
    const threads = rowThreads(software, width + capacity, { reads: 1 });
    return { kernel: banKernel({ rows, width, capacity, threads }) };
  },
};

/**
 * Gives the lowest score to each token that would repeat a run of tokens.
 *
 * @param scores f32 [B, V]
 * @param options `tokens`: i32 [B, S], of which each sequence has as many as `lengths` says, i32 [B]; `sizes`: tokens of a run
 * that must not come twice, i32 [B], 0 where any may
 * @returns f32 [B, V]
 * @throws {ShapeError} When the shapes do not fit
 */
export function banNgrams(
  scores: Tensor,
  { tokens, lengths, sizes }: { readonly tokens: Tensor; readonly lengths: Tensor; readonly sizes: Tensor },
): Tensor {
  return apply(banNgramsOp, [scores, tokens, lengths, sizes], null);
}
