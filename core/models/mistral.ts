/**
 * Mistral: Llama with sliding-window attention.
 *
 * Source: Jiang et al., "Mistral 7B", arXiv 2310.06825, section 2; names are those of `transformers`.
 *
 * Axes: B batch, T time, C channels.
 *
 * @module
 */

import { attentionParams, type AttentionSpec, selfAttention } from "../nn/attention.ts";
import { embedding, embeddingParams, type EmbeddingSpec } from "../nn/embedding.ts";
import { gatedMlp, gatedMlpParams, type GatedMlpSpec } from "../nn/mlp.ts";
import { normParams, type NormSpec, rmsNorm } from "../nn/norm.ts";
import { paddingLimits } from "../nn/padding.ts";
import { type Layers, type ParamsOf, repeat } from "../nn/params.ts";
import { ropeTables } from "../nn/rope.ts";
import { add } from "../ops/arithmetic.ts";
import type { Tensor } from "../tensor.ts";
import { activationOf } from "./activation.ts";
import type { ConfigReader } from "./config_reader.ts";
import { ATTENTION_DROPOUT, type DecoderConfig, readDecoder, readWindows } from "./decoder_config.ts";
import type { Family, HiddenOptions, TokenInput } from "./family.ts";
import { lastTokenHead } from "./last_token_head.ts";
import { baseHead, lmHead, type LmHeadParams } from "./lm_head.ts";

/** The values of `config.json` that the model depends on. */
export interface MistralConfig extends DecoderConfig {
  /** How many positions the attention of each layer sees; null for all. */
  readonly windows: readonly (number | null)[];
}

function parse(read: ConfigReader): MistralConfig {
  const config = readDecoder(read, { maxLength: 131072, kvHeads: 8 });
  for (const key of ["attention_bias", "mlp_bias"]) read.only(key, false);
  const window = read.countOrNull("sliding_window", 4096);
  return { ...config, windows: readWindows(read, { layers: config.layers, window, sliding: () => true }) };
}

/**
 * Declares a block.
 *
 * @internal
 */
export const mistralLayer = (c: MistralConfig) => ({
  input_layernorm: normParams(c.hiddenSize) as NormSpec,
  self_attn: attentionParams(c) as AttentionSpec,
  post_attention_layernorm: normParams(c.hiddenSize) as NormSpec,
  mlp: gatedMlpParams(c) as GatedMlpSpec,
});

/**
 * Declares all parameters but the head.
 *
 * @internal
 */
export const mistralModel = (c: MistralConfig) => ({
  model: {
    embed_tokens: embeddingParams([c.vocabSize, c.hiddenSize]) as EmbeddingSpec,
    layers: repeat(c.layers, mistralLayer(c)) as Layers<ReturnType<typeof mistralLayer>>,
    norm: normParams(c.hiddenSize) as NormSpec,
  },
});

/** Parameters of the model, named as in the checkpoint. */
export type MistralParams = ParamsOf<typeof mistralModel> & LmHeadParams;

function hidden(
  { model }: MistralParams,
  { inputIds, attentionMask, segments }: TokenInput,
  { config, loraScale, dropout }: HiddenOptions<MistralConfig>,
): Tensor {
  const rope = ropeTables(config.rope, { length: inputIds.shape[1] });
  const activation = activationOf(config.activation);
  const limits = { ...paddingLimits(attentionMask), segments };
  let x = embedding(inputIds, model.embed_tokens, config); // [B, T, C]
  for (let i = 0; i < config.layers; i++) {
    const { input_layernorm, self_attn, post_attention_layernorm, mlp } = model.layers[i];
    const options = {
      ...config,
      rope,
      limits,
      loraScale,
      dropout: dropout?.weights("attention_dropout"),
      window: config.windows[i],
    };
    x = add(x, selfAttention(rmsNorm(x, input_layernorm, config), self_attn, options));
    x = add(x, gatedMlp(rmsNorm(x, post_attention_layernorm, config), mlp, { activation, loraScale }));
  }
  return rmsNorm(x, model.norm, config);
}

/** The Mistral family, `"model_type": "mistral"`. */
export const mistral: Family<MistralConfig, MistralParams, TokenInput> = {
  name: "mistral",
  title: "Mistral",
  parse,
  params: mistralModel,
  basePrefix: "model",
  ignored: [/\.rotary_emb\.inv_freq$/],
  inputs: ["attentionMask", "segments"],
  maxLength: (config) => config.maxLength,
  dropouts: ATTENTION_DROPOUT,
  hidden,
  heads: {
    MistralForCausalLM: lmHead,
    MistralForSequenceClassification: lastTokenHead(),
    MistralModel: baseHead(),
  },
};
