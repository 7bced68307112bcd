/**
 * How likely tokens were, in the forms of OpenAI's routes.
 *
 * @module
 */

import type { LikelyToken, ToldToken } from "@firn/train/infer";
import type { Tokenizer } from "@firn/train/data";

/** A token as text, and the natural logarithm of its probability. */
export interface LikelyText {
  /** Its text; `token_id:` and its id where it has none, as a token that ends a text. */
  readonly token: string;
  /** Logarithm of its probability. */
  readonly logProb: number;
}

/** A token of an answer. */
export interface ToldText extends LikelyText {
  /** The likeliest tokens in its place. */
  readonly likeliest: readonly LikelyText[];
}

/**
 * A token as text. What a token means may depend on the one before.
 *
 * @param told The token
 * @param options Turns ids into text; the id before it, if any
 * @returns The same with texts
 */
export function toldText(
  { likeliest, ...own }: ToldToken,
  { decode, before }: Pick<Tokenizer, "decode"> & { readonly before: number | undefined },
): ToldText {
  const known = before === undefined ? [] : [before], start = decode(known).length;
  const textOf = ({ id, logProb }: LikelyToken): LikelyText => ({
    token: decode([...known, id]).slice(start) || `token_id:${id}`,
    logProb,
  });
  return { ...textOf(own), likeliest: likeliest.map(textOf) };
}

/** A token as the chat route tells it. Bytes that are no text of their own are not known. */
function chatToken({ token, logProb }: LikelyText) {
  const bytes = token.includes("\ufffd") ? null : [...new TextEncoder().encode(token)];
  return { token, logprob: logProb, bytes };
}

/** The `logprobs` of an answer of the chat route. */
export function chatLogProbs(tokens: readonly ToldText[]) {
  return {
    content: tokens.map((told) => ({ ...chatToken(told), top_logprobs: told.likeliest.map(chatToken) })),
    refusal: null,
  };
}

/** The `logprobs` of an answer of the completion route. `from`: where in the answer the first token stands. */
export function completionLogProbs(tokens: readonly ToldText[], from: number) {
  let at = from;
  return {
    tokens: tokens.map(({ token }) => token),
    token_logprobs: tokens.map(({ logProb }) => logProb),
    top_logprobs: tokens.map(({ likeliest }) =>
      Object.fromEntries(likeliest.map(({ token, logProb }) => [token, logProb]))
    ),
    text_offset: tokens.map(({ token }) => (at += token.length) - token.length),
  };
}
