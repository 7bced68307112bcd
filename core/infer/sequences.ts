/**
 * Sequences of tokens on the host.
 *
 * @module
 */

import { NonFiniteError } from "../errors.ts";
import type { Sequence } from "./generation_types.ts";
import { badScore } from "./sampler.ts";

/**
 * Adds tokens to a sequence, up to one that ends it.
 *
 * @param sequence The sequence
 * @param options `drawn`: tokens, or codes of scores that are not finite; `stop`: tokens that end it
 * @returns The sequence with them
 * @throws {NonFiniteError} When the scores of a token are not finite
 */
export function extended(
  sequence: Sequence,
  { drawn, stop }: { readonly drawn: readonly number[]; readonly stop: readonly number[] },
): Sequence {
  if (sequence.ended) return sequence;
  const end = drawn.findIndex((id) => stop.includes(id)), news = end < 0 ? drawn : drawn.slice(0, end);
  const bad = news.findIndex((id) => id < 0), { tokens, generated, added } = sequence;
  if (bad >= 0) {
    throw new NonFiniteError(`scores of token ${generated + bad + 1}`, 0, badScore(news[bad]), {
      action: "generate",
      mend: "the weights of the model are damaged: load it again, or go back to a checkpoint",
    });
  }
  return {
    tokens: [...tokens, ...news],
    generated: generated + news.length,
    added: [...added, ...news],
    ended: end >= 0,
  };
}

/**
 * Counts the tokens with which two sequences begin alike.
 *
 * @param a A sequence
 * @param b Another one
 * @returns How many
 */
export function alike(a: readonly number[], b: readonly number[]): number {
  const other = a.findIndex((id, i) => id !== b[i]);
  return other < 0 ? a.length : other;
}
