/**
 * Negative log-likelihoods of labels, row by row, without all scores in memory.
 *
 * Legend: N rows, C channels, V classes.
 *
 * @module
 */

import { fill } from "../sources.ts";
import { apply, checkFloats, type Op, pick, type PullbackContext, type Tensor } from "../tensor.ts";
import { multiply } from "./arithmetic.ts";
import { gatherRowsOp, scatterRowsOp } from "./compact_rows.ts";
import {
  type ChunkAttrs,
  chunkedRows,
  chunksOf,
  hiddenSlopes,
  type LinearCrossEntropyOptions,
  orderOf,
  slopesOf,
  weightSlopes,
} from "./linear_cross_entropy.ts";
import { concat, reshape } from "./movement.ts";
import { recomputeFrom } from "./recompute.ts";

const column = (x: Tensor): Tensor => reshape(x, [x.shape[0], 1]);

/** A factor that changes nothing. */
const ONE: Tensor = fill(1, [1]);

/**
 * The factors of the rows are known only after all losses are. Slopes without them are made while the scores of a chunk exist,
 * and take as many bytes as the hidden rows.
 */
function hiddenGradient({ inputs, attrs, gradient }: PullbackContext<ChunkAttrs>): Tensor {
  return multiply(hiddenSlopes(inputs, { attrs, scale: ONE }), column(gradient));
}

/** Where there are several chunks, their scores are computed again: to keep them would be to have all in memory. */
function weightGradient({ inputs, attrs, gradient }: PullbackContext<ChunkAttrs>): Tensor {
  const [hidden, weight, labels] = inputs, [all] = hidden.shape, order = orderOf(labels);
  const own = all > attrs.rows ? recomputeFrom(hidden, gradient) : hidden;
  const weighted = multiply(own, column(gradient));
  const chunks = slopesOf([own, weight, labels], { attrs, scale: ONE }).map(({ slope, limit }, i) => {
    const places = { start: i * attrs.rows, count: Math.min(attrs.rows, all - i * attrs.rows) };
    return [slope, apply(gatherRowsOp, [weighted, labels, order, pick(order, 1)], places), limit] as const;
  });
  return weightSlopes(chunks, weight.shape[0]);
}

/** Inputs: hidden [N, C], weight [V, C] and labels [N]. Output: the losses of the rows [N]. */
const tokenLossesOp: Op<ChunkAttrs> = {
  name: "tokenLosses",
  packed: [1],
  roles: ["matrix", "matrix"],
  infer([hidden, weight, labels]) {
    checkFloats("tokenLosses", [hidden, weight]);
    return [{ shape: labels.shape, dtype: "f32" }];
  },
  pullbacks: [hiddenGradient, weightGradient, null],
  definition(inputs, attrs) {
    const [, , labels] = inputs, order = orderOf(labels);
    const losses = concat(chunksOf(inputs, attrs).map(({ losses }) => losses), 0);
    return [
      reshape(apply(scatterRowsOp, [column(losses), order, labels, pick(order, 1)], null), labels.shape),
    ];
  },
};

/**
 * Negative log-likelihood of each label under the scores `hidden W^T`, in chunks as `linearCrossEntropy` computes them.
 *
 * @param hidden f32 [..., C]
 * @param options Weight, labels, and most memory for scores
 * @returns f32 of the shape of the labels, nats; 0 where a label is -100
 * @throws {ShapeError} When the shapes do not fit or the labels are not i32
 * @throws {InputError} When a tensor of values has a label that is no class
 */
export function tokenLosses(hidden: Tensor, options: LinearCrossEntropyOptions): Tensor {
  const { inputs, attrs } = chunkedRows("tokenLosses", hidden, options);
  return reshape(apply(tokenLossesOp, inputs, attrs), options.labels.shape);
}
