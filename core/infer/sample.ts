/**
 * One token from scores.
 *
 * @module
 */

import { NonFiniteError } from "../errors.ts";
import { threefry2x32 } from "../../kernels/random.ts";

/** Options of {@link sampleToken}. */
export interface SampleOptions {
  /** 0 is greedy; above, scores are divided by it. */
  readonly temperature: number;
  /** Only this many best tokens are drawn from; all when absent. */
  readonly topK?: number;
  /** Seed of the draws. */
  readonly seed: number;
  /** Which draw it is. */
  readonly position: number;
}

/** Keeps draws of tokens apart from other draws with the same seed. */
const STREAM = 0x67656e;

/**
 * Draws a token with probability `softmax(scores / temperature)`.
 *
 * @param scores A score for each token
 * @param options Temperature, how many tokens are considered, seed and number of the draw
 * @returns The id; the same for the same scores and options
 * @throws {NonFiniteError} When a score is NaN, or none is above minus infinity
 */
export function sampleToken(scores: Float32Array, options: SampleOptions): number {
  const { temperature, topK, seed, position } = options;
  checkScores(scores, position);
  if (temperature === 0) return scores.reduce((best, s, i) => s > scores[best] ? i : best, 0);
  const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a] || a - b).slice(0, topK);
  const weights = order.map((i) => Math.exp((scores[i] - scores[order[0]]) / temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  const [bits] = threefry2x32([seed >>> 0, STREAM], [position, 0]);
  let left = bits / 2 ** 32 * total;
  const at = weights.findIndex((w) => (left -= w) < 0);
  return order[at < 0 ? order.length - 1 : at];
}

/** Scores that cannot be compared would give the first token or the last. Minus infinity excludes a token. */
function checkScores(scores: Float32Array, position: number): void {
  const bad = scores.find((s) => Number.isNaN(s) || s === Infinity) ??
    (scores.some((s) => s > -Infinity) ? undefined : -Infinity);
  if (bad === undefined) return;
  throw new NonFiniteError(`scores of token ${position + 1}`, 0, bad, {
    action: "generate",
    mend: "the weights of the model are damaged: load it again, or go back to a checkpoint",
  });
}
