/**
 * GPT-2: decoder-only, pre-norm, learned positions; its linear layers have weights [in, out].
 *
 * Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.3; names are those of
 * `transformers`.
 *
 * Axes: B batch, T time, C channels, H heads, D head size.
 *
 * @module
 */

import { attend } from "../nn/attention.ts";
import { dropping } from "../nn/dropout.ts";
import { embedding, embeddingParams, type EmbeddingSpec, positionEmbedding } from "../nn/embedding.ts";
import { linear, linearParams, type LinearSpec } from "../nn/linear.ts";
import { layerNorm, normParams, type NormSpec } from "../nn/norm.ts";
import { paddingLimits } from "../nn/padding.ts";
import { type Layers, type ParamsOf, repeat } from "../nn/params.ts";
import { add } from "../ops/arithmetic.ts";
import { reshape, slice } from "../ops/movement.ts";
import type { Tensor } from "../tensor.ts";
import { type ActivationName, activationOf, readActivation } from "./activation.ts";
import { type ClassConfig, readClasses } from "./class_head.ts";
import type { ConfigReader } from "./config_reader.ts";
import { checkNeutral, readLayers, readPadding } from "./decoder_config.ts";
import type { Family, HiddenOptions, TokenInput } from "./family.ts";
import { lastTokenHead } from "./last_token_head.ts";
import { baseHead, type LmHeadParams, tokenHead } from "./lm_head.ts";

/** The values of `config.json` that the model depends on. */
export interface Gpt2Config extends ClassConfig {
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
  /** The head is the embedding. */
  readonly tied: boolean;
  /** The activation of the feed-forward layers. */
  readonly activation: ActivationName;
  /** Factor of the scores of attention in each layer. */
  readonly scales: readonly number[];
}

/** Rates of dropout in training. */
const DROPOUTS = { attn_pdrop: 0.1, embd_pdrop: 0.1, resid_pdrop: 0.1 };

function parse(read: ConfigReader): Gpt2Config {
  checkNeutral(read, Object.keys(DROPOUTS));
  const vocabSize = read.count("vocab_size");
  const hiddenSize = read.count("n_embd", 768), heads = read.count("n_head", 12);
  if (hiddenSize % heads !== 0) throw read.error("n_head", `it must divide n_embd ${hiddenSize}`, heads);
  const layers = readLayers(read, "n_layer");
  const scale = read.boolean("scale_attn_weights", true) ? 1 / Math.sqrt(hiddenSize / heads) : 1;
  const byLayer = read.boolean("scale_attn_by_inverse_layer_idx", false);
  return {
    ...readClasses(read),
    hiddenSize,
    heads,
    intermediateSize: read.countOrNull("n_inner", null) ?? 4 * hiddenSize,
    layers,
    vocabSize,
    padding: readPadding(read, { vocabSize }),
    maxLength: read.count("n_positions", 1024),
    eps: read.number("layer_norm_epsilon", 1e-5),
    tied: read.boolean("tie_word_embeddings", true),
    activation: readActivation(read, { key: "activation_function", name: "gelu_new" }),
    scales: Array.from({ length: layers }, (_, i) => byLayer ? scale / (i + 1) : scale),
  };
}

const turned = { bias: true, layout: "inOut" } as const;

/**
 * Declares a block.
 *
 * @internal
 */
export const gpt2Layer = (c: Gpt2Config) => ({
  ln_1: normParams(c.hiddenSize, { bias: true }) as NormSpec,
  attn: {
    c_attn: linearParams([3 * c.hiddenSize, c.hiddenSize], turned) as LinearSpec,
    c_proj: linearParams([c.hiddenSize, c.hiddenSize], turned) as LinearSpec,
  },
  ln_2: normParams(c.hiddenSize, { bias: true }) as NormSpec,
  mlp: {
    c_fc: linearParams([c.intermediateSize, c.hiddenSize], turned) as LinearSpec,
    c_proj: linearParams([c.hiddenSize, c.intermediateSize], turned) as LinearSpec,
  },
});

/**
 * Declares all parameters but the head.
 *
 * @internal
 */
export const gpt2Model = (c: Gpt2Config) => ({
  transformer: {
    wte: embeddingParams([c.vocabSize, c.hiddenSize]) as EmbeddingSpec,
    wpe: embeddingParams([c.maxLength, c.hiddenSize]) as EmbeddingSpec,
    h: repeat(c.layers, gpt2Layer(c)) as Layers<ReturnType<typeof gpt2Layer>>,
    ln_f: normParams(c.hiddenSize, { bias: true }) as NormSpec,
  },
});

/** Parameters of the model, named as in the checkpoint. */
export type Gpt2Params = ParamsOf<typeof gpt2Model> & LmHeadParams;

function hidden(
  { transformer: model }: Gpt2Params,
  { inputIds, attentionMask, segments }: TokenInput,
  { config, loraScale, dropout }: HiddenOptions<Gpt2Config>,
): Tensor {
  const { heads, hiddenSize } = config, [batch, time] = inputIds.shape, dim = hiddenSize / heads;
  const activation = activationOf(config.activation), options = { loraScale, layout: "inOut" } as const;
  const limits = { ...paddingLimits(attentionMask), segments };
  const drop = dropping(dropout), weights = dropout?.weights("attn_pdrop");
  let x = drop(
    add(embedding(inputIds, model.wte), positionEmbedding(inputIds, model.wpe, { segments })),
    "embd_pdrop",
  ); // [B, T, C]
  for (let i = 0; i < config.layers; i++) {
    const { ln_1, attn, ln_2, mlp } = model.h[i];
    const all = reshape(linear(layerNorm(x, ln_1, config), attn.c_attn, options), [
      batch,
      time,
      3 * heads,
      dim,
    ]);
    const [q, k, v] = [0, 1, 2].map((part) =>
      slice(all, { starts: [0, 0, part * heads, 0], sizes: [batch, time, heads, dim] })
    );
    const seen = attend({ q, k, v }, { scale: config.scales[i], limits, dropout: weights });
    x = add(x, drop(linear(seen, attn.c_proj, options), "resid_pdrop"));
    const inner = activation(linear(layerNorm(x, ln_2, config), mlp.c_fc, options));
    x = add(x, drop(linear(inner, mlp.c_proj, options), "resid_pdrop"));
  }
  return layerNorm(x, model.ln_f, config);
}

/** The GPT-2 family, `"model_type": "gpt2"`. */
export const gpt2: Family<Gpt2Config, Gpt2Params, TokenInput> = {
  name: "gpt2",
  title: "GPT-2",
  parse,
  params: gpt2Model,
  basePrefix: "transformer",
  dropouts: DROPOUTS,
  ignored: [/\.attn\.(bias|masked_bias)$/],
  inputs: ["attentionMask", "segments"],
  maxLength: (config) => config.maxLength,
  hidden,
  heads: {
    GPT2LMHeadModel: tokenHead({
      embedding: "transformer.wte",
      output: ({ lm_head, transformer }) => lm_head ?? transformer.wte,
    }),
    GPT2ForSequenceClassification: lastTokenHead(),
    GPT2Model: baseHead(),
  },
};
