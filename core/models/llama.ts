/**
 * Llama: decoder-only, pre-norm, rotary positions, grouped key heads, gated feed-forward layers.
 *
 * Source: Touvron et al., "Llama 2", arXiv 2307.09288, section 2.2; names are those of `transformers`.
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
export interface LlamaConfig extends DecoderConfig {
  /** Projections of the attention have a bias. */
  readonly attentionBias: boolean;
  /** Projections of the feed-forward layers have a bias. */
  readonly mlpBias: boolean;
}

/**
 * Reads the configuration.
 *
 * @internal
 */
export function readLlama(read: ConfigReader): LlamaConfig {
  return {
    ...readDecoder(read, { maxLength: 2048 }),
    attentionBias: read.boolean("attention_bias", false),
    mlpBias: read.boolean("mlp_bias", false),
  };
}

/**
 * Declares a block.
 *
 * @internal
 */
export const llamaLayer = (c: LlamaConfig) => ({
  input_layernorm: normParams(c.hiddenSize) as NormSpec,
  self_attn: attentionParams(c, { qkvBias: c.attentionBias, outBias: c.attentionBias }) as AttentionSpec,
  post_attention_layernorm: normParams(c.hiddenSize) as NormSpec,
  mlp: gatedMlpParams(c, { bias: c.mlpBias }) as GatedMlpSpec,
});

/**
 * Declares all parameters but the head.
 *
 * @internal
 */
export const llamaModel = (c: LlamaConfig) => ({
  model: {
    embed_tokens: embeddingParams([c.vocabSize, c.hiddenSize]) as EmbeddingSpec,
    layers: repeat(c.layers, llamaLayer(c)) as Layers<ReturnType<typeof llamaLayer>>,
    norm: normParams(c.hiddenSize) as NormSpec,
  },
});

/** Parameters of the model, named as in the checkpoint. */
export type LlamaParams = ParamsOf<typeof llamaModel> & LmHeadParams;

/**
 * Hidden states from embedded tokens.
 *
 * @param model Parameters without the head
 * @param x f32 [B, T, C]
 * @param options The configuration, which positions are padding, and the documents of packed rows
 * @returns f32 [B, T, C]
 */
export function decode(
  { layers, norm }: Pick<LlamaParams["model"], "layers" | "norm">,
  x: Tensor,
  { config, loraScale, dropout, attentionMask, segments }:
    & HiddenOptions<LlamaConfig>
    & Omit<TokenInput, "inputIds">,
): Tensor {
  const rope = ropeTables(config.rope, { length: x.shape[1] });
  const limits = { ...paddingLimits(attentionMask), segments };
  const activation = activationOf(config.activation);
  for (let i = 0; i < config.layers; i++) {
    const { input_layernorm, self_attn, post_attention_layernorm, mlp } = layers[i];
    const options = { ...config, rope, limits, loraScale, dropout: dropout?.weights("attention_dropout") };
    x = add(x, selfAttention(rmsNorm(x, input_layernorm, config), self_attn, options));
    x = add(x, gatedMlp(rmsNorm(x, post_attention_layernorm, config), mlp, { activation, loraScale }));
  }
  return rmsNorm(x, norm, config);
}

function hidden(
  { model }: LlamaParams,
  { inputIds, ...limits }: TokenInput,
  { config, loraScale, dropout }: HiddenOptions<LlamaConfig>,
): Tensor {
  const x = embedding(inputIds, model.embed_tokens, config); // [B, T, C]
  return decode(model, x, { ...limits, config, loraScale, dropout });
}

/** The Llama family, `"model_type": "llama"`. */
export const llama: Family<LlamaConfig, LlamaParams, TokenInput> = {
  name: "llama",
  title: "Llama 1 to 3",
  parse: readLlama,
  params: llamaModel,
  basePrefix: "model",
  ignored: [/\.rotary_emb\.inv_freq$/],
  inputs: ["attentionMask", "segments"],
  maxLength: (config) => config.maxLength,
  dropouts: ATTENTION_DROPOUT,
  hidden,
  heads: {
    LlamaForCausalLM: lmHead,
    LlamaForSequenceClassification: lastTokenHead(),
    LlamaModel: baseHead(),
  },
};
