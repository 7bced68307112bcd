/**
 * One token from scores.
 *
 * @module
 */

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
 */
export function sampleToken(scores: Float32Array, options: SampleOptions): number {
  const { temperature, topK, seed, position } = options;
  if (temperature === 0) return scores.reduce((best, s, i) => s > scores[best] ? i : best, 0);
  const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a] || a - b).slice(0, topK);
  const weights = order.map((i) => Math.exp((scores[i] - scores[order[0]]) / temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  const [bits] = threefry2x32([seed >>> 0, STREAM], [position, 0]);
  let left = bits / 2 ** 32 * total;
  const at = weights.findIndex((w) => (left -= w) < 0);
  return order[at < 0 ? order.length - 1 : at];
}
