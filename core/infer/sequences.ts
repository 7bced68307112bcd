/**
 * Sequences of tokens on the host.
 *
 * @module
 */

import { NonFiniteError } from "../errors.ts";
import type { Sequence } from "./generation_types.ts";
import { badScore } from "./sampler.ts";
import type { ToldToken } from "./told.ts";

/** Tokens that the device chose. */
export interface Drawn {
  /** They, or codes of scores that are not finite. */
  readonly ids: readonly number[];
  /** What is told of each; absent for nothing. */
  readonly told?: readonly ToldToken[];
}

/**
 * Adds tokens to a sequence, up to one that ends it.
 *
 * @param sequence The sequence
 * @param options `drawn`: the tokens; `stop`: tokens that end it
 * @returns The sequence with them
 * @throws {NonFiniteError} When the scores of a token are not finite
 */
export function extended(
  sequence: Sequence,
  { drawn, stop }: { readonly drawn: Drawn; readonly stop: readonly number[] },
): Sequence {
  if (sequence.ended) return sequence;
  const { ids } = drawn, end = ids.findIndex((id) => stop.includes(id));
  const news = end < 0 ? ids : ids.slice(0, end), bad = news.findIndex((id) => id < 0);
  const { tokens, generated, added, told = [] } = sequence;
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
    ...drawn.told !== undefined && { told: [...told, ...drawn.told.slice(0, news.length)] },
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
