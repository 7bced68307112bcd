/**
 * OLMo 2: norms after attention and feed-forward layers, and norms of queries and keys over all heads.
 *
 * Source: OLMo Team, "2 OLMo 2 Furious", arXiv 2501.00656, section 3; names are those of `transformers`.
 *
 * Axes: B batch, T time, C channels.
 *
 * @module
 */

import { attentionParams, type AttentionSpec, selfAttention } from "../nn/attention.ts";
import { embedding, embeddingParams, type EmbeddingSpec } from "../nn/embedding.ts";
import { gatedMlp, gatedMlpParams, type GatedMlpSpec } from "../nn/mlp.ts";
import { normParams, type NormSpec, rmsNorm } from "../nn/norm.ts";
import { paddingLimits } from "../nn/padding.ts";
import { type Layers, type ParamsOf, repeat } from "../nn/params.ts";
import { ropeTables } from "../nn/rope.ts";
import { add } from "../ops/arithmetic.ts";
import type { Tensor } from "../tensor.ts";
import { activationOf } from "./activation.ts";
import type { ConfigReader } from "./config_reader.ts";
import { ATTENTION_DROPOUT, type DecoderConfig, readDecoder } from "./decoder_config.ts";
import type { Family, HiddenOptions, TokenInput } from "./family.ts";
import { lastTokenHead } from "./last_token_head.ts";
import { baseHead, lmHead, type LmHeadParams } from "./lm_head.ts";

/** The values of `config.json` that the model depends on. */
export interface Olmo2Config extends DecoderConfig {
  /** Projections of the attention have a bias. */
  readonly attentionBias: boolean;
}

function parse(read: ConfigReader): Olmo2Config {
  read.only("mlp_bias", false);
  return {
    ...readDecoder(read, { maxLength: 2048, eps: 1e-5, padding: 1 }),
    attentionBias: read.boolean("attention_bias", false),
  };
}

/**
 * Declares a block.
 *
 * @internal
 */
export const olmo2Layer = (c: Olmo2Config) => ({
  self_attn: attentionParams(c, {
    qkvBias: c.attentionBias,
    outBias: c.attentionBias,
    qkNorm: "all",
  }) as AttentionSpec,
  post_attention_layernorm: normParams(c.hiddenSize) as NormSpec,
  mlp: gatedMlpParams(c) as GatedMlpSpec,
  post_feedforward_layernorm: normParams(c.hiddenSize) as NormSpec,
});

/**
 * Declares all parameters but the head.
 *
 * @internal
 */
export const olmo2Model = (c: Olmo2Config) => ({
  model: {
    embed_tokens: embeddingParams([c.vocabSize, c.hiddenSize]) as EmbeddingSpec,
    layers: repeat(c.layers, olmo2Layer(c)) as Layers<ReturnType<typeof olmo2Layer>>,
    norm: normParams(c.hiddenSize) as NormSpec,
  },
});

/** Parameters of the model, named as in the checkpoint. */
export type Olmo2Params = ParamsOf<typeof olmo2Model> & LmHeadParams;

function hidden(
  { model }: Olmo2Params,
  { inputIds, attentionMask, segments }: TokenInput,
  { config, loraScale, dropout }: HiddenOptions<Olmo2Config>,
): Tensor {
  const rope = ropeTables(config.rope, { length: inputIds.shape[1] });
  const activation = activationOf(config.activation);
  const limits = { ...paddingLimits(attentionMask), segments };
  let x = embedding(inputIds, model.embed_tokens, config); // [B, T, C]
  for (let i = 0; i < config.layers; i++) {
    const { self_attn, post_attention_layernorm, mlp, post_feedforward_layernorm } = model.layers[i];
    const seen = selfAttention(x, self_attn, {
      ...config,
      rope,
      limits,
      loraScale,
      dropout: dropout?.weights("attention_dropout"),
    });
    x = add(x, rmsNorm(seen, post_attention_layernorm, config));
    x = add(x, rmsNorm(gatedMlp(x, mlp, { activation, loraScale }), post_feedforward_layernorm, config));
  }
  return rmsNorm(x, model.norm, config);
}

/** The OLMo 2 family, `"model_type": "olmo2"`. */
export const olmo2: Family<Olmo2Config, Olmo2Params, TokenInput> = {
  name: "olmo2",
  title: "OLMo 2",
  parse,
  params: olmo2Model,
  basePrefix: "model",
  inputs: ["attentionMask", "segments"],
  maxLength: (config) => config.maxLength,
  dropouts: ATTENTION_DROPOUT,
  hidden,
  heads: {
    Olmo2ForCausalLM: lmHead,
    Olmo2ForSequenceClassification: lastTokenHead(),
    Olmo2Model: baseHead(),
  },
};
