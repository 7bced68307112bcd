/**
 * How `transformers` 5.17 changes scores (`generation/logits_process.py`), in float64, for the tests of sampling.
 *
 * @module
 */

import { threefry2x32 } from "@firn/train/kernels";
import type { Sampling } from "@firn/train/infer";

/** Probabilities of scores; minus infinity has none. */
export function softmax(scores: readonly number[]): number[] {
  const most = Math.max(...scores), weights = scores.map((score) => Math.exp(score - most));
  const total = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / total);
}

const ordered = (values: readonly number[]): number[] =>
  [...values.keys()].sort((a, b) => values[b] - values[a]);

/** Scores of all but some ids, the others minus infinity. */
const kept = (scores: readonly number[], ids: readonly number[]): number[] =>
  scores.map((score, id) => ids.includes(id) ? score : -Infinity);

/** The ids, in an order, whose probabilities before them add up to less than a share. */
function until(
  order: readonly number[],
  { chances, share }: { chances: readonly number[]; share: number },
): number[] {
  let sum = 0;
  return order.filter((id, place) => {
    const within = place === 0 || sum < share;
    sum += chances[id];
    return within;
  });
}

/** The steps before the temperature. */
export function processed(
  scores: readonly number[],
  { tokens, prompt, sampling }: { tokens: readonly number[]; prompt: number; sampling: Sampling },
): number[] {
  const { logitBias = {}, repetitionPenalty: penalty = 1, noRepeatNgram: size = 0 } = sampling;
  const { presencePenalty = 0, frequencyPenalty = 0 } = sampling, generated = tokens.slice(prompt);
  let all = scores.map((score, id) => score + (logitBias[id] ?? 0));
  all = all.map((score, id) => !tokens.includes(id) ? score : score < 0 ? score * penalty : score / penalty);
  all = all.map((score, id) => {
    const count = generated.filter((token) => token === id).length;
    return score - frequencyPenalty * count - (count > 0 ? presencePenalty : 0);
  });
  if (size === 0) return all;
  const last = tokens.slice(tokens.length - size + 1);
  const banned = tokens.flatMap((_, i) => {
    const run = tokens.slice(i, i + size);
    return run.length === size && last.every((token, j) => token === run[j]) ? [run[size - 1]] : [];
  });
  return all.map((score, id) => banned.includes(id) ? -Infinity : score);
}

/** The temperature and what narrows a draw, in the order of `transformers`. */
export function warped(scores: readonly number[], sampling: Sampling): number[] {
  const { temperature = 1, topK, topP = 1, minP = 0, typicalP = 1 } = sampling;
  let all = scores.map((score) => score / temperature);
  if (topK !== undefined) all = kept(all, ordered(all).slice(0, topK));
  if (topP < 1) all = kept(all, until(ordered(all), { chances: softmax(all), share: topP }));
  if (minP > 0) {
    const chances = softmax(all), most = Math.max(...chances);
    all = kept(all, [...chances.keys()].filter((id) => chances[id] >= minP * most));
  }
  if (typicalP < 1) {
    const chances = softmax(all), logs = chances.map(Math.log);
    const entropy = -chances.reduce((sum, chance, id) => chance === 0 ? sum : sum + chance * logs[id], 0);
    const order = ordered(logs.map((log) => -Math.abs(-log - entropy)));
    all = kept(all, until(order, { chances, share: typicalP }));
  }
  return all;
}

/** The id that a draw gives: the first at which the sum of probabilities exceeds the random number of a seed and a place. */
export function drawn(scores: readonly number[], { seed, place }: { seed: number; place: number }): number {
  const uniform = (threefry2x32([seed, 0x67656e], [place, 0])[0] >>> 8) / 2 ** 24;
  let sum = 0;
  return softmax(scores).findIndex((chance) => (sum += chance) > uniform);
}
