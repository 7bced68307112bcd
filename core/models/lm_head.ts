/**
 * The head of language models: a row of scores for each position.
 *
 * @module
 */

import type { Embedding } from "../nn/embedding.ts";
import { type LinearParams, linearParams, type LinearSpec } from "../nn/linear.ts";
import { type ParamsOf, tiedTo } from "../nn/params.ts";
import type { Tensor } from "../tensor.ts";
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
export const lmHead: Head<DecoderConfig, LmParams, TokenInput> = {
  task: "nextToken",
  params({ vocabSize, hiddenSize, tied }): LmHeadSpec {
    const spec = linearParams([vocabSize, hiddenSize]);
    return { lm_head: tied ? tiedTo("model.embed_tokens", spec) : spec };
  },
  output: ({ lm_head, model }): LinearParams => lm_head ?? model.embed_tokens,
};
