/**
 * OLMoE: a mixture of experts in every layer, with norms of all queries and of all keys.
 *
 * Source: Muennighoff et al., "OLMoE", arXiv 2409.02060, section 2; names are those of `transformers`.
 *
 * Axes: B batch, T time, C channels.
 *
 * @module
 */

import { attentionParams, type AttentionSpec, selfAttention } from "../nn/attention.ts";
import { embedding, embeddingParams, type EmbeddingSpec } from "../nn/embedding.ts";
import { mixture, mixtureParams, type MixtureSpec } from "../nn/mixture.ts";
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
import { baseHead, lmHead, type LmHeadParams } from "./lm_head.ts";
import { type MixtureConfig, readMixture } from "./mixture_config.ts";

/** The values of `config.json` that the model depends on. */
export interface OlmoeConfig extends DecoderConfig, MixtureConfig {
  /** Projections of the attention have a bias. */
  readonly attentionBias: boolean;
  /** Bound of the elements of queries, keys and values. */
  readonly clip: number | null;
}

function parse(read: ConfigReader): OlmoeConfig {
  read.only("mlp_bias", false);
  return {
    ...readDecoder(read, { maxLength: 4096, eps: 1e-5, padding: 1, own: ["clip_qkv"] }),
    ...readMixture(read, { experts: 64, sizeKey: "intermediate_size" }),
    attentionBias: read.boolean("attention_bias", false),
    clip: read.numberOrNull("clip_qkv", null),
  };
}

/**
 * Declares a block.
 *
 * @internal
 */
export const olmoeLayer = (c: OlmoeConfig) => ({
  input_layernorm: normParams(c.hiddenSize) as NormSpec,
  self_attn: attentionParams(c, {
    qkvBias: c.attentionBias,
    outBias: c.attentionBias,
    qkNorm: "all",
  }) as AttentionSpec,
  post_attention_layernorm: normParams(c.hiddenSize) as NormSpec,
  mlp: mixtureParams(c) as MixtureSpec,
});

/**
 * Declares all parameters but the head.
 *
 * @internal
 */
export const olmoeModel = (c: OlmoeConfig) => ({
  model: {
    embed_tokens: embeddingParams([c.vocabSize, c.hiddenSize]) as EmbeddingSpec,
    layers: repeat(c.layers, olmoeLayer(c)) as Layers<ReturnType<typeof olmoeLayer>>,
    norm: normParams(c.hiddenSize) as NormSpec,
  },
});

/** Parameters of the model; paths are those of modules, and checkpoints may have a tensor for each expert. */
export type OlmoeParams = ParamsOf<typeof olmoeModel> & LmHeadParams;

function hidden(
  { model }: OlmoeParams,
  { inputIds, attentionMask, segments }: TokenInput,
  { config, loraScale, dropout }: HiddenOptions<OlmoeConfig>,
): Tensor {
  const rope = ropeTables(config.rope, { length: inputIds.shape[1] });
  const options = {
    ...config,
    loraScale,
    dropout: dropout?.weights("attention_dropout"),
    rope,
    limits: { ...paddingLimits(attentionMask), segments },
  };
  const feed = { ...config, loraScale, activation: activationOf(config.activation) };
  let x = embedding(inputIds, model.embed_tokens, config); // [B, T, C]
  for (let i = 0; i < config.layers; i++) {
    const { input_layernorm, self_attn, post_attention_layernorm, mlp } = model.layers[i];
    x = add(x, selfAttention(rmsNorm(x, input_layernorm, config), self_attn, options));
    x = add(x, mixture(rmsNorm(x, post_attention_layernorm, config), mlp, feed));
  }
  return rmsNorm(x, model.norm, config);
}

/** The OLMoE family, `"model_type": "olmoe"`. */
export const olmoe: Family<OlmoeConfig, OlmoeParams, TokenInput> = {
  name: "olmoe",
  title: "OLMoE",
  parse,
  params: olmoeModel,
  basePrefix: "model",
  inputs: ["attentionMask", "segments"],
  maxLength: (config) => config.maxLength,
  dropouts: ATTENTION_DROPOUT,
  hidden,
  heads: { OlmoeForCausalLM: lmHead, OlmoeModel: baseHead() },
};
