/**
 * Gemma 3, text: Gemma 2 with norms of queries and keys in place of bounds, five sliding layers to a full one, and rotary
 * positions of each kind of layer.
 *
 * Source: Gemma Team, "Gemma 3", arXiv 2503.19786, section 2; names are those of `transformers`.
 *
 * Axes: B batch, T time, C channels.
 *
 * @module
 */

import { attentionParams, type AttentionSpec } from "../nn/attention.ts";
import { embedding, embeddingParams, type EmbeddingSpec } from "../nn/embedding.ts";
import type { NormSpec } from "../nn/norm.ts";
import { paddingLimits } from "../nn/padding.ts";
import { type Layers, type ParamsOf, repeat } from "../nn/params.ts";
import { type RopeConfig, ropeTables } from "../nn/rope.ts";
import { multiply } from "../ops/arithmetic.ts";
import type { Tensor } from "../tensor.ts";
import type { ConfigReader } from "./config_reader.ts";
import { ATTENTION_DROPOUT, readDecoder, readWindows } from "./decoder_config.ts";
import type { Family, HiddenOptions, TokenInput } from "./family.ts";
import { gemma2Block, type Gemma2Config, gemma2Layer } from "./gemma2.ts";
import { gemmaNorm, gemmaNormParams } from "./gemma_norm.ts";
import { lastTokenHead } from "./last_token_head.ts";
import { baseHead, lmHead, type LmHeadParams } from "./lm_head.ts";
import { readRope } from "./rope_config.ts";

/** The values of `config.json` that the model depends on. */
export interface Gemma3Config extends Gemma2Config {
  /** Rotary positions of sliding layers; `rope` has those of the others. */
  readonly slidingRope: RopeConfig;
}

function parse(read: ConfigReader): Gemma3Config {
  const config = readDecoder(read, {
    maxLength: 131072,
    padding: 0,
    kvHeads: 4,
    headDim: 256,
    tied: true,
    activation: { key: "hidden_activation", name: "gelu_pytorch_tanh" },
    own: ["query_pre_attn_scalar", "final_logit_softcapping"],
    rope: { layer: "full_attention", theta: 1e6 },
  });
  const window = read.countOrNull("sliding_window", 4096), { layers } = config;
  const every = read.count("sliding_window_pattern", read.count("_sliding_window_pattern", 6));
  return {
    ...config,
    attentionBias: read.boolean("attention_bias", false),
    windows: readWindows(read, { layers, window, sliding: (layer) => (layer + 1) % every !== 0 }),
    queryScalar: read.number("query_pre_attn_scalar", 256),
    slidingRope: readRope(read, {
      dim: config.headDim,
      maxLength: config.maxLength,
      layer: "sliding_attention",
    }),
    attentionCap: null,
    logitCap: read.numberOrNull("final_logit_softcapping", null),
  };
}

/**
 * Declares a block.
 *
 * @internal
 */
export const gemma3Layer = (c: Gemma3Config) => ({
  ...gemma2Layer(c) as ReturnType<typeof gemma2Layer>,
  self_attn: {
    ...attentionParams(c, { qkvBias: c.attentionBias, outBias: c.attentionBias }),
    q_norm: gemmaNormParams(c.headDim),
    k_norm: gemmaNormParams(c.headDim),
  } as AttentionSpec,
});

/**
 * Declares all parameters but the head.
 *
 * @internal
 */
export const gemma3Model = (c: Gemma3Config) => ({
  model: {
    embed_tokens: embeddingParams([c.vocabSize, c.hiddenSize]) as EmbeddingSpec,
    layers: repeat(c.layers, gemma3Layer(c)) as Layers<ReturnType<typeof gemma3Layer>>,
    norm: gemmaNormParams(c.hiddenSize) as NormSpec,
  },
});

/** Parameters of the model, named as in the checkpoint. */
export type Gemma3Params = ParamsOf<typeof gemma3Model> & LmHeadParams;

function hidden(
  { model }: Gemma3Params,
  { inputIds, attentionMask, segments }: TokenInput,
  { config, loraScale, dropout }: HiddenOptions<Gemma3Config>,
): Tensor {
  const length = inputIds.shape[1];
  const [full, sliding] = [config.rope, config.slidingRope].map((rope) => ropeTables(rope, { length }));
  const limits = { ...paddingLimits(attentionMask), segments };
  const shared = {
    ...config,
    limits,
    loraScale,
    dropout: dropout?.weights("attention_dropout"),
    scale: 1 / Math.sqrt(config.queryScalar),
    norm: gemmaNorm,
  };
  let x = multiply(embedding(inputIds, model.embed_tokens, config), Math.sqrt(config.hiddenSize)); // [B, T, C]
  for (let i = 0; i < config.layers; i++) {
    const window = config.windows[i];
    const attention = { ...shared, window, rope: window === null ? full : sliding };
    x = gemma2Block(x, model.layers[i], { attention, config, loraScale });
  }
  return gemmaNorm(x, model.norm, config);
}

/** The text model of the Gemma 3 family, `"model_type": "gemma3_text"`. */
export const gemma3: Family<Gemma3Config, Gemma3Params, TokenInput> = {
  name: "gemma3_text",
  title: "Gemma 3 (text)",
  parse,
  params: gemma3Model,
  basePrefix: "model",
  inputs: ["attentionMask", "segments"],
  maxLength: (config) => config.maxLength,
  dropouts: ATTENTION_DROPOUT,
  hidden,
  heads: {
    Gemma3ForCausalLM: { ...lmHead, softCap: (config) => config.logitCap },
    Gemma3TextForSequenceClassification: lastTokenHead(),
    Gemma3TextModel: baseHead(),
  },
};
