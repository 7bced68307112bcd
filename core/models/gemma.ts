/**
 * Gemma: Llama with scaled embeddings, gains that are added to one, and the tanh form of GELU as gate.
 *
 * Source: Gemma Team, "Gemma", arXiv 2403.08295, section 2; names are those of `transformers`.
 *
 * Axes: B batch, T time, C channels.
 *
 * @module
 */

import { attentionParams, type AttentionSpec, selfAttention } from "../nn/attention.ts";
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
import { ATTENTION_DROPOUT, type DecoderConfig, readDecoder } from "./decoder_config.ts";
import type { Family, HiddenOptions, TokenInput } from "./family.ts";
import { gemmaNorm, gemmaNormParams } from "./gemma_norm.ts";
import { lastTokenHead } from "./last_token_head.ts";
import { baseHead, lmHead, type LmHeadParams } from "./lm_head.ts";

/** The values of `config.json` that the model depends on. */
export interface GemmaConfig extends DecoderConfig {
  /** Projections of the attention have a bias. */
  readonly attentionBias: boolean;
}

function parse(read: ConfigReader): GemmaConfig {
  const config = readDecoder(read, {
    maxLength: 8192,
    padding: 0,
    kvHeads: 16,
    headDim: 256,
    tied: true,
    activation: { key: "hidden_act", name: "gelu_pytorch_tanh" },
  });
  return { ...config, attentionBias: read.boolean("attention_bias", false) };
}

/**
 * Declares a block.
 *
 * @internal
 */
export const gemmaLayer = (c: GemmaConfig) => ({
  input_layernorm: gemmaNormParams(c.hiddenSize) as NormSpec,
  self_attn: attentionParams(c, { qkvBias: c.attentionBias, outBias: c.attentionBias }) as AttentionSpec,
  post_attention_layernorm: gemmaNormParams(c.hiddenSize) as NormSpec,
  mlp: gatedMlpParams(c) as GatedMlpSpec,
});

/**
 * Declares all parameters but the head.
 *
 * @internal
 */
export const gemmaModel = (c: GemmaConfig) => ({
  model: {
    embed_tokens: embeddingParams([c.vocabSize, c.hiddenSize]) as EmbeddingSpec,
    layers: repeat(c.layers, gemmaLayer(c)) as Layers<ReturnType<typeof gemmaLayer>>,
    norm: gemmaNormParams(c.hiddenSize) as NormSpec,
  },
});

/** Parameters of the model, named as in the checkpoint. */
export type GemmaParams = ParamsOf<typeof gemmaModel> & LmHeadParams;

function hidden(
  { model }: GemmaParams,
  { inputIds, attentionMask, segments }: TokenInput,
  { config, loraScale, dropout }: HiddenOptions<GemmaConfig>,
): Tensor {
  const rope = ropeTables(config.rope, { length: inputIds.shape[1] });
  const activation = activationOf(config.activation);
  const limits = { ...paddingLimits(attentionMask), segments };
  let x = multiply(embedding(inputIds, model.embed_tokens, config), Math.sqrt(config.hiddenSize)); // [B, T, C]
  for (let i = 0; i < config.layers; i++) {
    const { input_layernorm, self_attn, post_attention_layernorm, mlp } = model.layers[i];
    x = add(
      x,
      selfAttention(gemmaNorm(x, input_layernorm, config), self_attn, {
        ...config,
        rope,
        limits,
        loraScale,
        dropout: dropout?.weights("attention_dropout"),
      }),
    );
    x = add(x, gatedMlp(gemmaNorm(x, post_attention_layernorm, config), mlp, { activation, loraScale }));
  }
  return gemmaNorm(x, model.norm, config);
}

/** The Gemma family, `"model_type": "gemma"`. */
export const gemma: Family<GemmaConfig, GemmaParams, TokenInput> = {
  name: "gemma",
  title: "Gemma",
  parse,
  params: gemmaModel,
  basePrefix: "model",
  inputs: ["attentionMask", "segments"],
  maxLength: (config) => config.maxLength,
  dropouts: ATTENTION_DROPOUT,
  hidden,
  heads: {
    GemmaForCausalLM: lmHead,
    GemmaForSequenceClassification: lastTokenHead(),
    GemmaModel: baseHead(),
  },
};
