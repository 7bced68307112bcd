/**
 * The head of language models: a row of scores for each position.
 *
 * @module
 */

import type { Embedding } from "../nn/embedding.ts";
import { type LinearParams, linearParams, type LinearSpec } from "../nn/linear.ts";
import { type ParamsOf, stored, tiedTo } from "../nn/params.ts";
import type { Tensor } from "../tensor.ts";
import type { Path } from "../tree.ts";
import type { DecoderConfig } from "./decoder_config.ts";
import type { Head, TokenInput } from "./family.ts";

/** Declaration of the head; absent where it is the embedding. */
export interface LmHeadSpec {
  /** V scores of C channels. */
  readonly lm_head?: LinearSpec;
}

/** Parameters of the head. */
export type LmHeadParams = ParamsOf<LmHeadSpec>;

/** Parameters that hold the embedding and perhaps a head. */
export interface LmParams extends LmHeadParams {
  /** All but the head. */
  readonly model: { readonly embed_tokens: Embedding<Tensor> };
}

/** The head for the next token: `lm_head`, or the embedding where both are tied. */
export const lmHead: Head<DecoderConfig, LmParams, TokenInput> = tokenHead({
  embedding: "model.embed_tokens",
  output: ({ lm_head, model }) => lm_head ?? model.embed_tokens,
});

/** What the head of a decoder depends on. */
interface HeadConfig {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly tied: boolean;
}

/**
 * A head for the next token.
 *
 * @param options `embedding`: path of the table that it may be tied to; `key`: its name in checkpoints, `lm_head` when absent;
 * `output`: the layer in the parameters
 * @returns The head
 */
export function tokenHead<C extends HeadConfig, P extends object>(
  { embedding, key = "lm_head", output }: {
    readonly embedding: Path;
    readonly key?: string;
    readonly output: (params: P) => LinearParams;
  },
): Head<C, P, TokenInput> {
  return {
    task: "nextToken",
    params({ vocabSize, hiddenSize, tied }): LmHeadSpec {
      const spec = linearParams([vocabSize, hiddenSize]);
      return { lm_head: stored(key, tied ? tiedTo(embedding, spec)! : spec) };
    },
    output,
  };
}

/**
 * No head: hidden states alone, as in files of sentence encoders.
 *
 * @returns The head
 */
export function baseHead<C extends object, P extends object>(): Head<C, P, TokenInput> {
  return { task: "features", params: () => ({}) };
}
