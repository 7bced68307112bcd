/**
 * Granite: Llama with multipliers of embeddings, scores of attention, residuals and logits.
 *
 * Source: IBM, "Granite 3.0 Language Models", 2024; names are those of `transformers`.
 *
 * Axes: B batch, T time, C channels.
 *
 * @module
 */

import { selfAttention } from "../nn/attention.ts";
import { embedding } from "../nn/embedding.ts";
import { gatedMlp } from "../nn/mlp.ts";
import { rmsNorm } from "../nn/norm.ts";
import { paddingLimits } from "../nn/padding.ts";
import { ropeTables } from "../nn/rope.ts";
import { add, divide, multiply } from "../ops/arithmetic.ts";
import type { Tensor } from "../tensor.ts";
import { activationOf } from "./activation.ts";
import type { ConfigReader } from "./config_reader.ts";
import { ATTENTION_DROPOUT, readDecoder } from "./decoder_config.ts";
import type { Family, HiddenOptions, TokenInput } from "./family.ts";
import { type LlamaConfig, llamaModel, type LlamaParams } from "./llama.ts";
import { baseHead, lmHead } from "./lm_head.ts";

/** The values of `config.json` that the model depends on. */
export interface GraniteConfig extends LlamaConfig {
  /** Factor of embeddings. */
  readonly embeddingMultiplier: number;
  /** Factor of the scores of attention. */
  readonly attentionMultiplier: number;
  /** Factor of what a block adds. */
  readonly residualMultiplier: number;
  /** Divisor of logits. */
  readonly logitsScaling: number;
}

function parse(read: ConfigReader): GraniteConfig {
  const own = ["embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"];
  return {
    ...readDecoder(read, { maxLength: 2048, own }),
    attentionBias: read.boolean("attention_bias", false),
    mlpBias: read.boolean("mlp_bias", false),
    embeddingMultiplier: read.number("embedding_multiplier", 1),
    attentionMultiplier: read.number("attention_multiplier", 1),
    residualMultiplier: read.number("residual_multiplier", 1),
    logitsScaling: read.number("logits_scaling", 1),
  };
}

function hidden(
  { model }: LlamaParams,
  { inputIds, attentionMask, segments }: TokenInput,
  { config, loraScale, dropout }: HiddenOptions<GraniteConfig>,
): Tensor {
  const { residualMultiplier, attentionMultiplier: scale } = config;
  const rope = ropeTables(config.rope, { length: inputIds.shape[1] });
  const activation = activationOf(config.activation);
  const limits = { ...paddingLimits(attentionMask), segments };
  let x = multiply(embedding(inputIds, model.embed_tokens, config), config.embeddingMultiplier); // [B, T, C]
  for (let i = 0; i < config.layers; i++) {
    const { input_layernorm, self_attn, post_attention_layernorm, mlp } = model.layers[i];
    const options = {
      ...config,
      rope,
      limits,
      loraScale,
      dropout: dropout?.weights("attention_dropout"),
      scale,
    };
    const seen = selfAttention(rmsNorm(x, input_layernorm, config), self_attn, options);
    x = add(x, multiply(seen, residualMultiplier));
    const fed = gatedMlp(rmsNorm(x, post_attention_layernorm, config), mlp, { activation, loraScale });
    x = add(x, multiply(fed, residualMultiplier));
  }
  return rmsNorm(x, model.norm, config);
}

/** The Granite family, `"model_type": "granite"`. */
export const granite: Family<GraniteConfig, LlamaParams, TokenInput> = {
  name: "granite",
  title: "Granite",
  parse,
  params: llamaModel,
  basePrefix: "model",
  inputs: ["attentionMask", "segments"],
  maxLength: (config) => config.maxLength,
  dropouts: ATTENTION_DROPOUT,
  hidden,
  heads: {
    GraniteForCausalLM: {
      ...lmHead,
      // Scores are linear in the hidden states, so that these can be divided in their place.
      features: (hidden, { config }) => divide(hidden, config.logitsScaling),
    },
    GraniteModel: baseHead(),
  },
};
