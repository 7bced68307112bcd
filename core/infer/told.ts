/**
 * How likely the model found a token that was chosen, and which ones it found likeliest.
 *
 * Axes: B sequences, V entries of the vocabulary, W numbers about a token.
 *
 * @module
 */

import { cast, subtract } from "../ops/arithmetic.ts";
import { gather } from "../ops/gather.ts";
import { logSumExp } from "../ops/log_sum_exp.ts";
import { concat, reshape } from "../ops/movement.ts";
import { topK } from "../ops/top_k.ts";
import type { Tensor } from "../tensor.ts";
import { MOST_TOLD, type SamplingStep } from "./sampling.ts";

/** A token, and the natural logarithm of its probability. */
export interface LikelyToken {
  /** Its id. */
  readonly id: number;
  /** Logarithm of its probability by the model, before penalties and the temperature. */
  readonly logProb: number;
}

/** A token that was chosen. */
export interface ToldToken extends LikelyToken {
  /** The likeliest tokens in its place, as many as were asked for, the likeliest first. */
  readonly likeliest: readonly LikelyToken[];
}

/**
 * What is told of chosen tokens: the logarithm of the probability of each, of the likeliest ones, and the ids of those.
 *
 * @param scores f32 [B, V], as the model gives them
 * @param options The chosen tokens, i32 [B], and the steps that some sequence needs
 * @returns f32 [B, W]; null when nothing is asked for
 */
export function tellOf(
  scores: Tensor,
  { token, steps }: { readonly token: Tensor; readonly steps: readonly SamplingStep[] },
): Tensor | null {
  if (!steps.includes("told")) return null;
  const [rows, vocab] = scores.shape, total = logSumExp(scores, 1, { keepDims: true });
  const own = subtract(gather(scores, reshape(token, [rows, 1]), { axis: 1 }), total);
  if (!steps.includes("likeliest")) return own;
  const { values, indices } = topK(scores, Math.min(MOST_TOLD, vocab));
  return concat([own, subtract(values, total), cast(indices)], 1);
}

/**
 * Reads what is told of a token.
 *
 * @param row The W numbers
 * @param options Its id, and how many of the likeliest are wanted
 * @returns The token
 */
export function toldOf(
  row: Float32Array,
  { id, most }: { readonly id: number; readonly most: number },
): ToldToken {
  const count = (row.length - 1) / 2;
  return {
    id,
    logProb: row[0],
    likeliest: Array.from(
      { length: Math.min(most, count) },
      (_, i) => ({ id: row[1 + count + i], logProb: row[1 + i] }),
    ),
  };
}
