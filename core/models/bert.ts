/**
 * BERT: an encoder of text, post-norm, with learned positions and types of tokens.
 *
 * Source: Devlin et al., "BERT", arXiv 1810.04805, section 3; names are those of `transformers`.
 *
 * Axes: B batch, T time, C channels.
 *
 * @module
 */

import { attentionParams, type AttentionSpec, selfAttention } from "../nn/attention.ts";
import { dropping } from "../nn/dropout.ts";
import {
  type Embedding,
  embedding,
  embeddingParams,
  type EmbeddingSpec,
  firstRows,
} from "../nn/embedding.ts";
import { linear, linearParams, type LinearSpec } from "../nn/linear.ts";
import { mlp, mlpParams, type MlpSpec } from "../nn/mlp.ts";
import { layerNorm, normParams, type NormSpec } from "../nn/norm.ts";
import { paddingLimits } from "../nn/padding.ts";
import { segmentPositions } from "../nn/segments.ts";
import { type Layers, type ParamsOf, repeat, spare, stored, storedAs } from "../nn/params.ts";
import { add } from "../ops/arithmetic.ts";
import { tanh } from "../ops/functions.ts";
import type { Tensor } from "../tensor.ts";
import { activationOf } from "./activation.ts";
import { type ClassConfig, readClasses } from "./class_head.ts";
import type { ConfigReader } from "./config_reader.ts";
import type { DropoutDefaults } from "./dropout.ts";
import { type EncoderConfig, firstOf, readEncoder } from "./encoder_config.ts";
import type { Family, Head, HiddenOptions, TokenInput } from "./family.ts";

/** The values of `config.json` that the model depends on. */
export interface BertConfig extends EncoderConfig, ClassConfig {
  /** Entries of the vocabulary V. */
  readonly vocabSize: number;
  /** The id of the padding, whose embedding is not trained; null for none. */
  readonly padding: number | null;
  /** Rows of the table of positions. */
  readonly positions: number;
  /** Types of tokens, one for each text of an input. */
  readonly types: number;
}

/**
 * Reads the configuration.
 *
 * @internal
 */
export function readBert(
  read: ConfigReader,
  { padding }: { readonly padding: number } = { padding: 0 },
): BertConfig {
  const vocabSize = read.count("vocab_size");
  return {
    ...readEncoder(read),
    ...readClasses(read),
    vocabSize,
    padding: readPadding(read, { padding, vocabSize }),
    positions: read.count("max_position_embeddings", 512),
    types: read.count("type_vocab_size", 2),
  };
}

/**
 * Reads the id of the padding.
 *
 * @internal
 */
export function readPadding(
  read: ConfigReader,
  { padding, vocabSize }: { readonly padding: number; readonly vocabSize: number },
): number | null {
  const id = read.idOrNull("pad_token_id", padding);
  if (id === null || id < vocabSize) return id;
  throw read.error("pad_token_id", `it must be below vocab_size ${vocabSize}`, id);
}

/**
 * Declares a block.
 *
 * @internal
 */
export const bertLayer = (c: BertConfig) => ({
  attention: storedAs(
    { q_proj: "self.query", k_proj: "self.key", v_proj: "self.value", o_proj: "output.dense" },
    attentionParams(c, { qkvBias: true, outBias: true }),
  ) as AttentionSpec,
  attention_norm: stored("attention.output.LayerNorm", normParams(c.hiddenSize, { bias: true })) as NormSpec,
  mlp: stored(
    "",
    storedAs({ up_proj: "intermediate.dense", down_proj: "output.dense" }, mlpParams(c, { bias: true })),
  ) as MlpSpec,
  mlp_norm: stored("output.LayerNorm", normParams(c.hiddenSize, { bias: true })) as NormSpec,
});

/**
 * Declares the encoder.
 *
 * @internal
 */
export const bertEncoder = (c: BertConfig) => ({
  embeddings: {
    word_embeddings: embeddingParams([c.vocabSize, c.hiddenSize]) as EmbeddingSpec,
    position_embeddings: embeddingParams([c.positions, c.hiddenSize]) as EmbeddingSpec,
    token_type_embeddings: embeddingParams([c.types, c.hiddenSize]) as EmbeddingSpec,
    norm: stored("LayerNorm", normParams(c.hiddenSize, { bias: true })) as NormSpec,
  },
  layers: stored("encoder.layer", repeat(c.layers, bertLayer(c))) as Layers<ReturnType<typeof bertLayer>>,
});

/** Parameters of the encoder. */
export type BertEncoder = ParamsOf<typeof bertEncoder>;

/**
 * Declares all parameters but the head.
 *
 * @internal
 */
export const bertModel = (c: BertConfig) => ({
  bert: bertEncoder(c) as ReturnType<typeof bertEncoder>,
});

/**
 * Declares the pooler.
 *
 * @internal
 */
export const bertPooler = (c: BertConfig) => ({
  pooler: stored("bert.pooler", {
    dense: linearParams([c.hiddenSize, c.hiddenSize], { bias: true }),
  }) as { dense: LinearSpec },
});

/**
 * Declares the head for classes.
 *
 * @internal
 */
export const bertClassifier = (c: BertConfig) => ({
  classifier: linearParams([c.classes, c.hiddenSize], { bias: true }) as LinearSpec,
});

/** Parameters of the model; paths are those of blocks, keys those of checkpoints. */
export type BertParams =
  & ParamsOf<typeof bertModel>
  & Partial<ParamsOf<typeof bertPooler> & ParamsOf<typeof bertClassifier>>;

/**
 * Hidden states of the encoder.
 *
 * @param encoder Its parameters
 * @param input Token ids
 * @param options The configuration, and the rows of the table of positions, f32 [B or 1, T, C]
 * @returns f32 [B, T, C]
 */
export function encode(
  { embeddings, layers }: BertEncoder,
  { inputIds, attentionMask, segments, tokenTypeIds }: TokenInput,
  { config, loraScale, dropout, places }: HiddenOptions<BertConfig> & { readonly places: Tensor },
): Tensor {
  const { word_embeddings, token_type_embeddings, norm } = embeddings;
  const activation = activationOf(config.activation), limits = { ...paddingLimits(attentionMask), segments };
  const types = tokenTypeIds === undefined
    ? firstRows(token_type_embeddings, 1)
    : embedding(tokenTypeIds, token_type_embeddings);
  const words = embedding(inputIds, word_embeddings, config); // [B, T, C]
  const weights = dropout?.weights("attention_probs_dropout_prob");
  const drop = (x: Tensor): Tensor => dropping(dropout)(x, "hidden_dropout_prob");
  let x = drop(layerNorm(add(add(words, types), places), norm, config));
  for (let i = 0; i < config.layers; i++) {
    const { attention, attention_norm, mlp: feedForward, mlp_norm } = layers[i];
    const options = { ...config, causal: false, limits, loraScale, dropout: weights };
    x = layerNorm(add(x, drop(selfAttention(x, attention, options))), attention_norm, config);
    x = layerNorm(add(x, drop(mlp(x, feedForward, { activation, loraScale }))), mlp_norm, config);
  }
  return x;
}

function hidden({ bert }: BertParams, input: TokenInput, options: HiddenOptions<BertConfig>): Tensor {
  const places = placesOf(input, bert.embeddings.position_embeddings);
  return encode(bert, input, { ...options, places });
}

/**
 * Rows of a table of positions, which begin at 0 in each document.
 *
 * @param input Token ids, and the documents of packed rows
 * @param table The table
 * @returns f32 [T, C] or [B, T, C]
 */
export function placesOf({ inputIds, segments }: TokenInput, table: Embedding<Tensor>): Tensor {
  if (segments === undefined) return firstRows(table, inputIds.shape[1]);
  return embedding(segmentPositions(segments), table);
}

const sequenceHead: Head<BertConfig, BertParams, TokenInput> = {
  task: "sequenceClass",
  params: (c) => ({ ...bertPooler(c), ...bertClassifier(c) }),
  problem: ({ problem }) => problem,
  features: (hidden, { params, loraScale, dropout }) =>
    dropping(dropout)(
      tanh(linear(firstOf(hidden), params.pooler!.dense, { loraScale })),
      "classifier_dropout",
    ),
  output: (params) => params.classifier!,
};

const tokenHead: Head<BertConfig, BertParams, TokenInput> = {
  task: "tokenClass",
  params: bertClassifier,
  features: (hidden, { dropout }) => dropping(dropout)(hidden, "classifier_dropout"),
  output: (params) => params.classifier!,
};

/** Older names of norms in checkpoints. */
export const OLD_NORMS: readonly (readonly [RegExp, string])[] = [
  [/\bLayerNorm\.gamma$/, "LayerNorm.weight"],
  [/\bLayerNorm\.beta$/, "LayerNorm.bias"],
];

/** Rates of dropout of BERT and RoBERTa, with their defaults. */
export const DROPOUT: DropoutDefaults = {
  hidden_dropout_prob: 0.1,
  attention_probs_dropout_prob: 0.1,
  classifier_dropout: "hidden_dropout_prob",
};

/** The BERT family, `"model_type": "bert"`. */
export const bert: Family<BertConfig, BertParams, TokenInput> = {
  name: "bert",
  title: "BERT",
  parse: readBert,
  params: bertModel,
  basePrefix: "bert",
  aliases: OLD_NORMS,
  ignored: [/(^|\.)embeddings\.position_ids$/],
  inputs: ["attentionMask", "segments", "tokenTypeIds"],
  dropouts: DROPOUT,
  maxLength: (config) => config.positions,
  hidden,
  heads: {
    BertForSequenceClassification: sequenceHead,
    BertForTokenClassification: tokenHead,
    BertModel: { task: "features", params: (c) => spare(bertPooler(c))! },
  },
};
