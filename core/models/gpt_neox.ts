/**
 * GPT-NeoX and Pythia: layer norms, partly rotated heads, and attention beside the feed-forward layers.
 *
 * Source: Black et al., "GPT-NeoX-20B", arXiv 2204.06745, section 2; names are those of `transformers`.
 *
 * Axes: B batch, T time, C channels, H heads, D head size.
 *
 * @module
 */

import { attend, type AttendOptions } from "../nn/attention.ts";
import { embedding, embeddingParams, type EmbeddingSpec } from "../nn/embedding.ts";
import { linear, linearParams, type LinearSpec, type LoraOptions } from "../nn/linear.ts";
import { layerNorm, normParams, type NormSpec } from "../nn/norm.ts";
import { paddingLimits } from "../nn/padding.ts";
import { type Layers, type ParamsOf, repeat } from "../nn/params.ts";
import { type RopeConfig, ropeTables } from "../nn/rope.ts";
import { add } from "../ops/arithmetic.ts";
import { reshape, slice } from "../ops/movement.ts";
import type { Tensor } from "../tensor.ts";
import { type ActivationName, activationOf, readActivation } from "./activation.ts";
import { type ClassConfig, readClasses } from "./class_head.ts";
import type { ConfigReader } from "./config_reader.ts";
import { checkNeutral, readLayers, readPadding } from "./decoder_config.ts";
import { dropping } from "../nn/dropout.ts";
import type { Family, HiddenOptions, TokenInput } from "./family.ts";
import { lastTokenHead } from "./last_token_head.ts";
import { baseHead, type LmHeadParams, tokenHead } from "./lm_head.ts";
import { longest, readRope } from "./rope_config.ts";

/** The values of `config.json` that the model depends on. */
export interface GptNeoxConfig extends ClassConfig {
  /** Channels C. */
  readonly hiddenSize: number;
  /** Channels of the feed-forward layers. */
  readonly intermediateSize: number;
  /** Blocks. */
  readonly layers: number;
  /** Heads H. */
  readonly heads: number;
  /** Entries of the vocabulary V. */
  readonly vocabSize: number;
  /** The id of the padding, behind which classes are read; null for none. */
  readonly padding: number | null;
  /** Longest sequence, in tokens. */
  readonly maxLength: number;
  /** Added to the variance in norms. */
  readonly eps: number;
  /** Rotary positions. */
  readonly rope: RopeConfig;
  /** The head is the embedding. */
  readonly tied: boolean;
  /** Projections of the attention have a bias. */
  readonly attentionBias: boolean;
  /** The feed-forward layers read what the attention reads, and both are added. */
  readonly parallel: boolean;
  /** The activation of the feed-forward layers. */
  readonly activation: ActivationName;
}

/** Rates of dropout in training. */
const DROPOUTS = { attention_dropout: 0, hidden_dropout: 0 };

function parse(read: ConfigReader): GptNeoxConfig {
  checkNeutral(read, Object.keys(DROPOUTS));
  const vocabSize = read.count("vocab_size");
  const hiddenSize = read.count("hidden_size"), heads = read.count("num_attention_heads");
  if (hiddenSize % heads !== 0) {
    throw read.error("num_attention_heads", `it must divide hidden_size ${hiddenSize}`, heads);
  }
  const positions = read.count("max_position_embeddings", 2048);
  const rope = readRope(read, {
    dim: hiddenSize / heads,
    maxLength: positions,
    theta: read.number("rotary_emb_base", 10000),
    partial: read.number("rotary_pct", 0.25),
  });
  return {
    ...readClasses(read),
    hiddenSize,
    heads,
    intermediateSize: read.count("intermediate_size"),
    layers: readLayers(read, "num_hidden_layers"),
    vocabSize,
    padding: readPadding(read, { vocabSize }),
    maxLength: longest(rope, positions),
    eps: read.number("layer_norm_eps", 1e-5),
    rope,
    tied: read.boolean("tie_word_embeddings", false),
    attentionBias: read.boolean("attention_bias", true),
    parallel: read.boolean("use_parallel_residual", true),
    activation: readActivation(read, { key: "hidden_act", name: "gelu" }),
  };
}

/**
 * Declares a block.
 *
 * @internal
 */
export const gptNeoxLayer = (c: GptNeoxConfig) => ({
  input_layernorm: normParams(c.hiddenSize, { bias: true }) as NormSpec,
  attention: {
    query_key_value: linearParams([3 * c.hiddenSize, c.hiddenSize], { bias: c.attentionBias }) as LinearSpec,
    dense: linearParams([c.hiddenSize, c.hiddenSize], { bias: c.attentionBias }) as LinearSpec,
  },
  post_attention_layernorm: normParams(c.hiddenSize, { bias: true }) as NormSpec,
  mlp: {
    dense_h_to_4h: linearParams([c.intermediateSize, c.hiddenSize], { bias: true }) as LinearSpec,
    dense_4h_to_h: linearParams([c.hiddenSize, c.intermediateSize], { bias: true }) as LinearSpec,
  },
});

/**
 * Declares all parameters but the head.
 *
 * @internal
 */
export const gptNeoxModel = (c: GptNeoxConfig) => ({
  gpt_neox: {
    embed_in: embeddingParams([c.vocabSize, c.hiddenSize]) as EmbeddingSpec,
    layers: repeat(c.layers, gptNeoxLayer(c)) as Layers<ReturnType<typeof gptNeoxLayer>>,
    final_layer_norm: normParams(c.hiddenSize, { bias: true }) as NormSpec,
  },
});

/** Parameters of the model, named as in the checkpoint. */
export type GptNeoxParams = ParamsOf<typeof gptNeoxModel> & LmHeadParams;

type Layer = ParamsOf<typeof gptNeoxLayer>;
type Options = AttendOptions & LoraOptions & { readonly config: GptNeoxConfig };

function attentionOf(x: Tensor, { query_key_value, dense }: Layer["attention"], options: Options): Tensor {
  const { heads, hiddenSize } = options.config, dim = hiddenSize / heads, [batch, time] = x.shape;
  // Each head has its query, key and value side by side.
  const all = reshape(linear(x, query_key_value, options), [batch, time, heads, 3 * dim]);
  const [q, k, v] = [0, 1, 2].map((i) =>
    slice(all, { starts: [0, 0, 0, i * dim], sizes: [batch, time, heads, dim] })
  );
  return linear(attend({ q, k, v }, options), dense, options);
}

function feedForward(x: Tensor, { dense_h_to_4h, dense_4h_to_h }: Layer["mlp"], options: Options): Tensor {
  const inner = activationOf(options.config.activation)(linear(x, dense_h_to_4h, options));
  return linear(inner, dense_4h_to_h, options);
}

function hidden(
  { gpt_neox: model }: GptNeoxParams,
  { inputIds, attentionMask, segments }: TokenInput,
  { config, loraScale, dropout }: HiddenOptions<GptNeoxConfig>,
): Tensor {
  const limits = { ...paddingLimits(attentionMask), segments };
  const rope = ropeTables(config.rope, { length: inputIds.shape[1] }), drop = dropping(dropout);
  const options = { config, loraScale, limits, rope, dropout: dropout?.weights("attention_dropout") };
  let x = drop(embedding(inputIds, model.embed_in), "hidden_dropout"); // [B, T, C]
  for (let i = 0; i < config.layers; i++) {
    const { input_layernorm, attention, post_attention_layernorm, mlp } = model.layers[i];
    const attended = attentionOf(layerNorm(x, input_layernorm, config), attention, options);
    const seen = add(x, drop(attended, "hidden_dropout")), read = config.parallel ? x : seen;
    const fed = feedForward(layerNorm(read, post_attention_layernorm, config), mlp, options);
    x = add(seen, drop(fed, "hidden_dropout"));
  }
  return layerNorm(x, model.final_layer_norm, config);
}

/** The GPT-NeoX family, `"model_type": "gpt_neox"`, Pythia included. */
export const gptNeox: Family<GptNeoxConfig, GptNeoxParams, TokenInput> = {
  name: "gpt_neox",
  title: "GPT-NeoX and Pythia",
  parse,
  params: gptNeoxModel,
  basePrefix: "gpt_neox",
  dropouts: DROPOUTS,
  ignored: [/\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)$/],
  inputs: ["attentionMask", "segments"],
  maxLength: (config) => config.maxLength,
  hidden,
  heads: {
    GPTNeoXForCausalLM: tokenHead({
      key: "embed_out",
      embedding: "gpt_neox.embed_in",
      output: ({ lm_head, gpt_neox }) => lm_head ?? gpt_neox.embed_in,
    }),
    GPTNeoXForSequenceClassification: lastTokenHead(),
    GPTNeoXModel: baseHead(),
  },
};
