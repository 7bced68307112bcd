/**
 * RoBERTa: BERT whose positions count the tokens that are no padding, from behind the id of the padding.
 *
 * Source: Liu et al., "RoBERTa", arXiv 1907.11692; names and positions are those of `transformers`.
 *
 * Axes: B batch, T time, C channels.
 *
 * @module
 */

import { embedding } from "../nn/embedding.ts";
import { linear, linearParams, type LinearSpec } from "../nn/linear.ts";
import { type ParamsOf, spare, stored } from "../nn/params.ts";
import { countInSegments } from "../nn/segments.ts";
import { add, cast, multiply, subtract } from "../ops/arithmetic.ts";
import { equal } from "../ops/comparison.ts";
import { tanh } from "../ops/functions.ts";
import { integers } from "../ops/integers.ts";
import type { Tensor } from "../tensor.ts";
import { type BertConfig, bertEncoder, DROPOUT, encode, OLD_NORMS, readBert } from "./bert.ts";
import type { ConfigReader } from "./config_reader.ts";
import { dropping } from "../nn/dropout.ts";
import { firstOf } from "./encoder_config.ts";
import type { Family, Head, HiddenOptions, TokenInput } from "./family.ts";

/** The values of `config.json` that the model depends on. */
export interface RobertaConfig extends BertConfig {
  /** The id of the padding. */
  readonly padding: number;
}

function parse(read: ConfigReader): RobertaConfig {
  const config = readBert(read, { padding: 1 }), { padding } = config;
  if (padding === null) {
    throw read.error("pad_token_id", "positions count from it, so it must be a number", padding);
  }
  if (padding >= config.positions - 1) {
    throw read.error("pad_token_id", `it must leave positions of ${config.positions}`, padding);
  }
  return { ...config, padding };
}

/**
 * Declares all parameters but the head.
 *
 * @internal
 */
export const robertaModel = (c: RobertaConfig) => ({
  roberta: bertEncoder(c) as ReturnType<typeof bertEncoder>,
});

const pooler = (c: RobertaConfig) => ({
  pooler: stored("roberta.pooler", {
    dense: linearParams([c.hiddenSize, c.hiddenSize], { bias: true }),
  }) as { dense: LinearSpec },
});

const sequenceParams = (c: RobertaConfig) => ({
  classifier: {
    dense: linearParams([c.hiddenSize, c.hiddenSize], { bias: true }) as LinearSpec,
    out_proj: linearParams([c.classes, c.hiddenSize], { bias: true }) as LinearSpec,
  },
});

const tokenParams = (c: RobertaConfig) => ({
  classifier: linearParams([c.classes, c.hiddenSize], { bias: true }) as LinearSpec,
});

/** Parameters of the model without its head; paths are those of blocks, keys those of checkpoints. */
export type RobertaParams = ParamsOf<typeof robertaModel>;

function hidden(
  { roberta }: RobertaParams,
  input: TokenInput,
  options: HiddenOptions<RobertaConfig>,
): Tensor {
  const { config } = options;
  const places = embedding(
    positionsOf(input, config),
    roberta.embeddings.position_embeddings,
    config,
  );
  return encode(roberta, input, { ...options, places });
}

/** Positions [B, T]: that of the n-th token of a document is the padding's id plus n, and padding keeps its id. */
function positionsOf({ inputIds, segments }: TokenInput, { padding }: RobertaConfig): Tensor {
  const tokens = subtract(1, equal(cast(inputIds), padding)); // [B, T]
  return integers(add(multiply(countInSegments(tokens, segments), tokens), padding));
}

const sequenceHead: Head<RobertaConfig, RobertaParams & ParamsOf<typeof sequenceParams>, TokenInput> = {
  task: "sequenceClass",
  params: sequenceParams,
  problem: ({ problem }) => problem,
  features: (hidden, { params, loraScale, dropout }) => {
    const drop = (x: Tensor): Tensor => dropping(dropout)(x, "classifier_dropout");
    return drop(tanh(linear(drop(firstOf(hidden)), params.classifier.dense, { loraScale })));
  },
  output: (params) => params.classifier.out_proj,
};

const tokenHead: Head<RobertaConfig, RobertaParams & ParamsOf<typeof tokenParams>, TokenInput> = {
  task: "tokenClass",
  params: tokenParams,
  features: (hidden, { dropout }) => dropping(dropout)(hidden, "classifier_dropout"),
  output: (params) => params.classifier,
};

/** The RoBERTa family, `"model_type": "roberta"`. */
export const roberta: Family<RobertaConfig, RobertaParams, TokenInput> = {
  name: "roberta",
  title: "RoBERTa",
  parse,
  params: robertaModel,
  basePrefix: "roberta",
  aliases: OLD_NORMS,
  ignored: [/(^|\.)embeddings\.position_ids$/],
  inputs: ["attentionMask", "segments", "tokenTypeIds"],
  dropouts: DROPOUT,
  maxLength: (config) => config.positions - config.padding - 1,
  hidden,
  heads: {
    RobertaForSequenceClassification: sequenceHead as Head<RobertaConfig, RobertaParams, TokenInput>,
    RobertaForTokenClassification: tokenHead as Head<RobertaConfig, RobertaParams, TokenInput>,
    RobertaModel: { task: "features", params: (c) => spare(pooler(c))! },
  },
};
