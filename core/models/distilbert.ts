/**
 * DistilBERT: half the blocks of BERT, without types of tokens and without a pooler.
 *
 * Source: Sanh et al., "DistilBERT", arXiv 1910.01108, section 3; names are those of `transformers`.
 *
 * Axes: B batch, T time, C channels.
 *
 * @module
 */

import { attentionParams, type AttentionSpec, selfAttention } from "../nn/attention.ts";
import { embedding, embeddingParams, type EmbeddingSpec } from "../nn/embedding.ts";
import { linear, linearParams, type LinearSpec } from "../nn/linear.ts";
import { mlp, mlpParams, type MlpSpec } from "../nn/mlp.ts";
import { layerNorm, normParams, type NormSpec } from "../nn/norm.ts";
import { paddingLimits } from "../nn/padding.ts";
import { type Layers, type ParamsOf, repeat, stored, storedAs } from "../nn/params.ts";
import { relu } from "../ops/activations.ts";
import { add } from "../ops/arithmetic.ts";
import type { Tensor } from "../tensor.ts";
import { activationOf } from "./activation.ts";
import { placesOf, readPadding } from "./bert.ts";
import { type ClassConfig, readClasses } from "./class_head.ts";
import type { ConfigReader } from "./config_reader.ts";
import { dropping } from "../nn/dropout.ts";
import { type EncoderConfig, firstOf, readEncoder } from "./encoder_config.ts";
import type { Family, Head, HiddenOptions, TokenInput } from "./family.ts";

/** The values of `config.json` that the model depends on. */
export interface DistilBertConfig extends EncoderConfig, ClassConfig {
  /** Entries of the vocabulary V. */
  readonly vocabSize: number;
  /** The id of the padding, whose embedding is not trained; null for none. */
  readonly padding: number | null;
  /** Rows of the table of positions. */
  readonly positions: number;
}

const KEYS = {
  hiddenSize: "dim",
  intermediateSize: "hidden_dim",
  layers: "n_layers",
  heads: "n_heads",
  activation: "activation",
} as const;

/** Added to the variance in norms, whatever the configuration says. */
const EPS = 1e-12;

function parse(read: ConfigReader): DistilBertConfig {
  // Such positions are a table like any other, but are not trained.
  read.only("sinusoidal_pos_embds", false);
  const vocabSize = read.count("vocab_size");
  return {
    ...readEncoder(read, { keys: KEYS }),
    ...readClasses(read),
    eps: EPS,
    vocabSize,
    padding: readPadding(read, { padding: 0, vocabSize }),
    positions: read.count("max_position_embeddings", 512),
  };
}

/**
 * Declares a block.
 *
 * @internal
 */
export const distilBertLayer = (c: DistilBertConfig) => ({
  attention: storedAs(
    { q_proj: "q_lin", k_proj: "k_lin", v_proj: "v_lin", o_proj: "out_lin" },
    attentionParams(c, { qkvBias: true, outBias: true }),
  ) as AttentionSpec,
  attention_norm: stored("sa_layer_norm", normParams(c.hiddenSize, { bias: true })) as NormSpec,
  mlp: stored(
    "ffn",
    storedAs({ up_proj: "lin1", down_proj: "lin2" }, mlpParams(c, { bias: true })),
  ) as MlpSpec,
  mlp_norm: stored("output_layer_norm", normParams(c.hiddenSize, { bias: true })) as NormSpec,
});

/**
 * Declares all parameters but the head.
 *
 * @internal
 */
export const distilBertModel = (c: DistilBertConfig) => ({
  distilbert: {
    embeddings: {
      word_embeddings: embeddingParams([c.vocabSize, c.hiddenSize]) as EmbeddingSpec,
      position_embeddings: embeddingParams([c.positions, c.hiddenSize]) as EmbeddingSpec,
      norm: stored("LayerNorm", normParams(c.hiddenSize, { bias: true })) as NormSpec,
    },
    layers: stored("transformer.layer", repeat(c.layers, distilBertLayer(c))) as Layers<
      ReturnType<typeof distilBertLayer>
    >,
  },
});

/**
 * Declares the layer before the head.
 *
 * @internal
 */
export const distilBertPreClassifier = (c: DistilBertConfig) => ({
  pre_classifier: linearParams([c.hiddenSize, c.hiddenSize], { bias: true }) as LinearSpec,
});

/**
 * Declares the head for classes.
 *
 * @internal
 */
export const distilBertClassifier = (c: DistilBertConfig) => ({
  classifier: linearParams([c.classes, c.hiddenSize], { bias: true }) as LinearSpec,
});

/** Parameters of the model; paths are those of blocks, keys those of checkpoints. */
export type DistilBertParams =
  & ParamsOf<typeof distilBertModel>
  & Partial<ParamsOf<typeof distilBertPreClassifier> & ParamsOf<typeof distilBertClassifier>>;

function hidden(
  { distilbert: { embeddings, layers } }: DistilBertParams,
  { inputIds, attentionMask, segments }: TokenInput,
  { config, loraScale, dropout }: HiddenOptions<DistilBertConfig>,
): Tensor {
  const { word_embeddings, position_embeddings, norm } = embeddings;
  const activation = activationOf(config.activation), limits = { ...paddingLimits(attentionMask), segments };
  const places = placesOf({ inputIds, segments }, position_embeddings);
  const weights = dropout?.weights("attention_dropout");
  const drop = (x: Tensor): Tensor => dropping(dropout)(x, "dropout");
  let x = drop(layerNorm(add(embedding(inputIds, word_embeddings, config), places), norm, config)); // [B, T, C]
  for (let i = 0; i < config.layers; i++) {
    const { attention, attention_norm, mlp: feedForward, mlp_norm } = layers[i];
    const options = { ...config, causal: false, limits, loraScale, dropout: weights };
    const seen = selfAttention(x, attention, options);
    x = layerNorm(add(x, seen), attention_norm, config);
    x = layerNorm(add(x, drop(mlp(x, feedForward, { activation, loraScale }))), mlp_norm, config);
  }
  return x;
}

const sequenceHead: Head<DistilBertConfig, DistilBertParams, TokenInput> = {
  task: "sequenceClass",
  params: (c) => ({ ...distilBertPreClassifier(c), ...distilBertClassifier(c) }),
  problem: ({ problem }) => problem,
  features: (hidden, { params, loraScale, dropout }) =>
    dropping(dropout)(
      relu(linear(firstOf(hidden), params.pre_classifier!, { loraScale })),
      "seq_classif_dropout",
    ),
  output: (params) => params.classifier!,
};

const tokenHead: Head<DistilBertConfig, DistilBertParams, TokenInput> = {
  task: "tokenClass",
  params: distilBertClassifier,
  features: (hidden, { dropout }) => dropping(dropout)(hidden, "dropout"),
  output: (params) => params.classifier!,
};

/** The DistilBERT family, `"model_type": "distilbert"`. */
export const distilBert: Family<DistilBertConfig, DistilBertParams, TokenInput> = {
  name: "distilbert",
  title: "DistilBERT",
  parse,
  params: distilBertModel,
  basePrefix: "distilbert",
  ignored: [/(^|\.)embeddings\.position_ids$/],
  inputs: ["attentionMask", "segments"],
  dropouts: { dropout: 0.1, attention_dropout: 0.1, seq_classif_dropout: 0.2 },
  maxLength: (config) => config.positions,
  hidden,
  heads: {
    DistilBertForSequenceClassification: sequenceHead,
    DistilBertForTokenClassification: tokenHead,
    DistilBertModel: { task: "features", params: () => ({}) },
  },
};
