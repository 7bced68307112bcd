/**
 * Qwen3-MoE: Qwen3 whose feed-forward layers are mixtures of experts, but for some layers.
 *
 * Source: Yang et al., "Qwen3 Technical Report", arXiv 2505.09388, section 2; names are those of `transformers`.
 *
 * Axes: B batch, T time, C channels.
 *
 * @module
 */

import { attentionParams, type AttentionSpec, selfAttention } from "../nn/attention.ts";
import { embedding, embeddingParams, type EmbeddingSpec } from "../nn/embedding.ts";
import { mixture, mixtureParams, type MixtureSpec } from "../nn/mixture.ts";
import { gatedMlp, gatedMlpParams, type GatedMlpSpec } from "../nn/mlp.ts";
import { normParams, type NormSpec, rmsNorm } from "../nn/norm.ts";
import { paddingLimits } from "../nn/padding.ts";
import type { Layers, ParamsOf } from "../nn/params.ts";
import { ropeTables } from "../nn/rope.ts";
import { add } from "../ops/arithmetic.ts";
import type { Tensor } from "../tensor.ts";
import { activationOf } from "./activation.ts";
import type { ConfigReader } from "./config_reader.ts";
import { ATTENTION_DROPOUT, type DecoderConfig, readDecoder } from "./decoder_config.ts";
import type { Family, HiddenOptions, TokenInput } from "./family.ts";
import { lastTokenHead } from "./last_token_head.ts";
import { baseHead, lmHead, type LmHeadParams } from "./lm_head.ts";
import { type MixtureConfig, readMixture } from "./mixture_config.ts";

/** The values of `config.json` that the model depends on. */
export interface Qwen3MoeConfig extends DecoderConfig, MixtureConfig {
  /** How many positions the attention of all layers sees; null for all. */
  readonly window: number | null;
  /** Projections of the attention have a bias. */
  readonly attentionBias: boolean;
  /** Whether the feed-forward part of each layer is a mixture of experts. */
  readonly sparse: readonly boolean[];
}

function parse(read: ConfigReader): Qwen3MoeConfig {
  const config = readDecoder(read, { maxLength: 32768, kvHeads: 4 }), { layers } = config;
  read.only("mlp_bias", false);
  const dense = read.numbers("mlp_only_layers") ?? [], step = read.count("decoder_sparse_step", 1);
  return {
    ...config,
    ...readMixture(read, { experts: 128, size: 768, sizeKey: "moe_intermediate_size" }),
    window: read.boolean("use_sliding_window", false) ? read.countOrNull("sliding_window", 4096) : null,
    attentionBias: read.boolean("attention_bias", false),
    sparse: Array.from({ length: layers }, (_, i) => !dense.includes(i) && (i + 1) % step === 0),
  };
}

/**
 * Declares a block.
 *
 * @internal
 */
export const qwen3MoeLayer = (c: Qwen3MoeConfig, layer: number) => ({
  input_layernorm: normParams(c.hiddenSize) as NormSpec,
  self_attn: attentionParams(c, {
    qkvBias: c.attentionBias,
    outBias: c.attentionBias,
    qkNorm: "head",
  }) as AttentionSpec,
  post_attention_layernorm: normParams(c.hiddenSize) as NormSpec,
  mlp: (c.sparse[layer] ? mixtureParams(c) : gatedMlpParams(c)) as GatedMlpSpec | MixtureSpec,
});

/**
 * Declares all parameters but the head.
 *
 * @internal
 */
export const qwen3MoeModel = (c: Qwen3MoeConfig) => ({
  model: {
    embed_tokens: embeddingParams([c.vocabSize, c.hiddenSize]) as EmbeddingSpec,
    layers: Object.fromEntries(c.sparse.map((_, i) => [i, qwen3MoeLayer(c, i)])) as Layers<
      ReturnType<typeof qwen3MoeLayer>
    >,
    norm: normParams(c.hiddenSize) as NormSpec,
  },
});

/** Parameters of the model; paths are those of modules, and checkpoints may have a tensor for each expert. */
export type Qwen3MoeParams = ParamsOf<typeof qwen3MoeModel> & LmHeadParams;

function hidden(
  { model }: Qwen3MoeParams,
  { inputIds, attentionMask, segments }: TokenInput,
  { config, loraScale, dropout }: HiddenOptions<Qwen3MoeConfig>,
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
    const rows = rmsNorm(x, post_attention_layernorm, config);
    x = add(x, "experts" in mlp ? mixture(rows, mlp, feed) : gatedMlp(rows, mlp, feed));
  }
  return rmsNorm(x, model.norm, config);
}

/** The Qwen3-MoE family, `"model_type": "qwen3_moe"`. */
export const qwen3Moe: Family<Qwen3MoeConfig, Qwen3MoeParams, TokenInput> = {
  name: "qwen3_moe",
  title: "Qwen3-MoE",
  parse,
  params: qwen3MoeModel,
  basePrefix: "model",
  inputs: ["attentionMask", "segments"],
  maxLength: (config) => config.maxLength,
  dropouts: ATTENTION_DROPOUT,
  hidden,
  heads: {
    Qwen3MoeForCausalLM: lmHead,
    Qwen3MoeForSequenceClassification: lastTokenHead(),
    Qwen3MoeModel: baseHead(),
  },
};
