/**
 * Qwen3: Llama with norms of queries and keys in each head, and optional sliding windows in upper layers.
 *
 * Source: Yang et al., "Qwen3 Technical Report", arXiv 2505.09388, section 2; names are those of `transformers`.
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
import { ATTENTION_DROPOUT, type DecoderConfig, readDecoder, readUpperWindows } from "./decoder_config.ts";
import type { Family, HiddenOptions, TokenInput } from "./family.ts";
import { lastTokenHead } from "./last_token_head.ts";
import { baseHead, lmHead, type LmHeadParams } from "./lm_head.ts";

/** The values of `config.json` that the model depends on. */
export interface Qwen3Config extends DecoderConfig {
  /** How many positions the attention of each layer sees; null for all. */
  readonly windows: readonly (number | null)[];
  /** Projections of the attention have a bias. */
  readonly attentionBias: boolean;
}

function parse(read: ConfigReader): Qwen3Config {
  const config = readDecoder(read, { maxLength: 32768, kvHeads: 32, headDim: 128 });
  read.only("mlp_bias", false);
  return {
    ...config,
    windows: readUpperWindows(read, config),
    attentionBias: read.boolean("attention_bias", false),
  };
}

/**
 * Declares a block.
 *
 * @internal
 */
export const qwen3Layer = (c: Qwen3Config) => ({
  input_layernorm: normParams(c.hiddenSize) as NormSpec,
  self_attn: attentionParams(c, {
    qkvBias: c.attentionBias,
    outBias: c.attentionBias,
    qkNorm: "head",
  }) as AttentionSpec,
  post_attention_layernorm: normParams(c.hiddenSize) as NormSpec,
  mlp: gatedMlpParams(c) as GatedMlpSpec,
});

/**
 * Declares all parameters but the head.
 *
 * @internal
 */
export const qwen3Model = (c: Qwen3Config) => ({
  model: {
    embed_tokens: embeddingParams([c.vocabSize, c.hiddenSize]) as EmbeddingSpec,
    layers: repeat(c.layers, qwen3Layer(c)) as Layers<ReturnType<typeof qwen3Layer>>,
    norm: normParams(c.hiddenSize) as NormSpec,
  },
});

/** Parameters of the model, named as in the checkpoint. */
export type Qwen3Params = ParamsOf<typeof qwen3Model> & LmHeadParams;

function hidden(
  { model }: Qwen3Params,
  { inputIds, attentionMask, segments }: TokenInput,
  { config, loraScale, dropout }: HiddenOptions<Qwen3Config>,
): Tensor {
  const rope = ropeTables(config.rope, { length: inputIds.shape[1] });
  const activation = activationOf(config.activation);
  const limits = { ...paddingLimits(attentionMask), segments };
  let x = embedding(inputIds, model.embed_tokens, config); // [B, T, C]
  for (let i = 0; i < config.layers; i++) {
    const { input_layernorm, self_attn, post_attention_layernorm, mlp } = model.layers[i];
    const options = {
      ...config,
      rope,
      limits,
      loraScale,
      dropout: dropout?.weights("attention_dropout"),
      window: config.windows[i],
    };
    x = add(x, selfAttention(rmsNorm(x, input_layernorm, config), self_attn, options));
    x = add(x, gatedMlp(rmsNorm(x, post_attention_layernorm, config), mlp, { activation, loraScale }));
  }
  return rmsNorm(x, model.norm, config);
}

/** The Qwen3 family, `"model_type": "qwen3"`. */
export const qwen3: Family<Qwen3Config, Qwen3Params, TokenInput> = {
  name: "qwen3",
  title: "Qwen3",
  parse,
  params: qwen3Model,
  basePrefix: "model",
  inputs: ["attentionMask", "segments"],
  maxLength: (config) => config.maxLength,
  dropouts: ATTENTION_DROPOUT,
  hidden,
  heads: {
    Qwen3ForCausalLM: lmHead,
    Qwen3ForSequenceClassification: lastTokenHead(),
    Qwen3Model: baseHead(),
  },
};
