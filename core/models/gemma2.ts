/**
 * Gemma 2: Gemma with bounds of scores, sliding windows in every other layer, and norms before and after each part of a
 * block.
 *
 * Source: Gemma Team, "Gemma 2", arXiv 2408.00118, section 2; names are those of `transformers`.
 *
 * Axes: B batch, T time, C channels.
 *
 * @module
 */

import {
  attentionParams,
  type AttentionSpec,
  selfAttention,
  type SelfAttentionOptions,
} from "../nn/attention.ts";
import { embedding, embeddingParams, type EmbeddingSpec } from "../nn/embedding.ts";
import { gatedMlp, gatedMlpParams, type GatedMlpSpec } from "../nn/mlp.ts";
import type { NormSpec } from "../nn/norm.ts";
import { paddingLimits } from "../nn/padding.ts";
import { type Layers, type ParamsOf, repeat } from "../nn/params.ts";
import { ropeTables } from "../nn/rope.ts";
import { add, multiply } from "../ops/arithmetic.ts";
import type { Tensor } from "../tensor.ts";
import { activationOf } from "./activation.ts";
import type { ConfigReader } from "./config_reader.ts";
import { ATTENTION_DROPOUT, readDecoder, readWindows } from "./decoder_config.ts";
import type { Family, HiddenOptions, TokenInput } from "./family.ts";
import type { GemmaConfig } from "./gemma.ts";
import { gemmaNorm, gemmaNormParams } from "./gemma_norm.ts";
import { lastTokenHead } from "./last_token_head.ts";
import { baseHead, lmHead, type LmHeadParams } from "./lm_head.ts";

/** The values of `config.json` that the model depends on. */
export interface Gemma2Config extends GemmaConfig {
  /** How many positions the attention of each layer sees; null for all. */
  readonly windows: readonly (number | null)[];
  /** One over the square of the factor of scores of attention. */
  readonly queryScalar: number;
  /** Bound of the scores of attention. */
  readonly attentionCap: number | null;
  /** Bound of logits. */
  readonly logitCap: number | null;
}

function parse(read: ConfigReader): Gemma2Config {
  const config = readDecoder(read, {
    maxLength: 8192,
    padding: 0,
    kvHeads: 4,
    headDim: 256,
    tied: true,
    activation: { key: "hidden_activation", name: "gelu_pytorch_tanh" },
    own: ["query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"],
  });
  const window = read.countOrNull("sliding_window", 4096), { layers } = config;
  return {
    ...config,
    attentionBias: read.boolean("attention_bias", false),
    windows: readWindows(read, { layers, window, sliding: (layer) => layer % 2 === 0 }),
    queryScalar: read.number("query_pre_attn_scalar", 256),
    attentionCap: read.numberOrNull("attn_logit_softcapping", 50),
    logitCap: read.numberOrNull("final_logit_softcapping", 30),
  };
}

/**
 * Declares a block.
 *
 * @internal
 */
export const gemma2Layer = (c: Gemma2Config) => ({
  input_layernorm: gemmaNormParams(c.hiddenSize) as NormSpec,
  self_attn: attentionParams(c, { qkvBias: c.attentionBias, outBias: c.attentionBias }) as AttentionSpec,
  post_attention_layernorm: gemmaNormParams(c.hiddenSize) as NormSpec,
  pre_feedforward_layernorm: gemmaNormParams(c.hiddenSize) as NormSpec,
  mlp: gatedMlpParams(c) as GatedMlpSpec,
  post_feedforward_layernorm: gemmaNormParams(c.hiddenSize) as NormSpec,
});

/**
 * Declares all parameters but the head.
 *
 * @internal
 */
export const gemma2Model = (c: Gemma2Config) => ({
  model: {
    embed_tokens: embeddingParams([c.vocabSize, c.hiddenSize]) as EmbeddingSpec,
    layers: repeat(c.layers, gemma2Layer(c)) as Layers<ReturnType<typeof gemma2Layer>>,
    norm: gemmaNormParams(c.hiddenSize) as NormSpec,
  },
});

/** Parameters of the model, named as in the checkpoint. */
export type Gemma2Params = ParamsOf<typeof gemma2Model> & LmHeadParams;

/** Parameters of a block. */
type Block = ParamsOf<typeof gemma2Layer>;

/**
 * Computes a block: norms before and after each part, inside the residual.
 *
 * @internal
 */
export function gemma2Block(
  x: Tensor,
  layer: Block,
  { attention, config, loraScale }: HiddenOptions<Gemma2Config> & {
    readonly attention: SelfAttentionOptions;
  },
): Tensor {
  const seen = selfAttention(gemmaNorm(x, layer.input_layernorm, config), layer.self_attn, attention);
  const y = add(x, gemmaNorm(seen, layer.post_attention_layernorm, config));
  const rows = gemmaNorm(y, layer.pre_feedforward_layernorm, config);
  const fed = gatedMlp(rows, layer.mlp, { activation: activationOf(config.activation), loraScale });
  return add(y, gemmaNorm(fed, layer.post_feedforward_layernorm, config));
}

function hidden(
  { model }: Gemma2Params,
  { inputIds, attentionMask, segments }: TokenInput,
  { config, loraScale, dropout }: HiddenOptions<Gemma2Config>,
): Tensor {
  const rope = ropeTables(config.rope, { length: inputIds.shape[1] });
  const scale = 1 / Math.sqrt(config.queryScalar), softCap = config.attentionCap;
  const limits = { ...paddingLimits(attentionMask), segments };
  let x = multiply(embedding(inputIds, model.embed_tokens, config), Math.sqrt(config.hiddenSize)); // [B, T, C]
  for (let i = 0; i < config.layers; i++) {
    const options = {
      ...config,
      rope,
      limits,
      loraScale,
      dropout: dropout?.weights("attention_dropout"),
      scale,
      softCap,
      window: config.windows[i],
    };
    x = gemma2Block(x, model.layers[i], { attention: options, config, loraScale });
  }
  return gemmaNorm(x, model.norm, config);
}

/** The Gemma 2 family, `"model_type": "gemma2"`. */
export const gemma2: Family<Gemma2Config, Gemma2Params, TokenInput> = {
  name: "gemma2",
  title: "Gemma 2",
  parse,
  params: gemma2Model,
  basePrefix: "model",
  inputs: ["attentionMask", "segments"],
  maxLength: (config) => config.maxLength,
  dropouts: ATTENTION_DROPOUT,
  hidden,
  heads: {
    Gemma2ForCausalLM: { ...lmHead, softCap: (config) => config.logitCap },
    Gemma2ForSequenceClassification: lastTokenHead(),
    Gemma2Model: baseHead(),
  },
};
