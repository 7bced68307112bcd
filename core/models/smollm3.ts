/**
 * SmolLM3: Llama in which some layers have no rotary positions.
 *
 * Source: Bakouch et al., "SmolLM3", 2025, and Yang et al., "Rope to Nope and Back Again", arXiv 2501.18795; names are those
 * of `transformers`.
 *
 * Axes: B batch, T time, C channels.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { selfAttention } from "../nn/attention.ts";
import { embedding } from "../nn/embedding.ts";
import { gatedMlp } from "../nn/mlp.ts";
import { rmsNorm } from "../nn/norm.ts";
import { paddingLimits } from "../nn/padding.ts";
import { ropeTables } from "../nn/rope.ts";
import { add } from "../ops/arithmetic.ts";
import type { Tensor } from "../tensor.ts";
import { activationOf } from "./activation.ts";
import type { ConfigReader } from "./config_reader.ts";
import { ATTENTION_DROPOUT, readDecoder, readWindows } from "./decoder_config.ts";
import type { Family, HiddenOptions, TokenInput } from "./family.ts";
import { type LlamaConfig, llamaModel, type LlamaParams } from "./llama.ts";
import { lastTokenHead } from "./last_token_head.ts";
import { baseHead, lmHead } from "./lm_head.ts";

/** The values of `config.json` that the model depends on. */
export interface Smollm3Config extends LlamaConfig {
  /** Whether each layer has rotary positions. */
  readonly rotates: readonly boolean[];
  /** How many positions the attention of each layer sees; null for all. */
  readonly windows: readonly (number | null)[];
}

function parse(read: ConfigReader): Smollm3Config {
  const config = readDecoder(read, {
    maxLength: 32768,
    padding: 128004,
    kvHeads: 4,
    tied: true,
    rope: { theta: 2e6 },
    own: ["no_rope_layers"],
  });
  const { layers } = config, rotates = readRotates(read, layers);
  const window = read.boolean("use_sliding_window", false) ? read.countOrNull("sliding_window", null) : null;
  return {
    ...config,
    attentionBias: read.boolean("attention_bias", false),
    mlpBias: read.boolean("mlp_bias", false),
    rotates,
    windows: readWindows(read, { layers, window, sliding: (layer) => !rotates[layer] }),
  };
}

/** Despite its name, `no_rope_layers` has 1 for each layer with rotary positions. */
function readRotates(read: ConfigReader, layers: number): readonly boolean[] {
  const marks = read.numbers("no_rope_layers"), every = read.count("no_rope_layer_interval", 4);
  if (marks === null) return Array.from({ length: layers }, (_, i) => (i + 1) % every !== 0);
  if (marks.length !== layers || marks.some((mark) => mark !== 0 && mark !== 1)) {
    throw read.error(
      "no_rope_layers",
      `it must have ${counted(layers, "entry")} of 0 or 1, one for each layer`,
      marks,
    );
  }
  return marks.map((mark) => mark === 1);
}

function hidden(
  { model }: LlamaParams,
  { inputIds, attentionMask, segments }: TokenInput,
  { config, loraScale, dropout }: HiddenOptions<Smollm3Config>,
): Tensor {
  const tables = ropeTables(config.rope, { length: inputIds.shape[1] });
  const activation = activationOf(config.activation);
  const limits = { ...paddingLimits(attentionMask), segments };
  let x = embedding(inputIds, model.embed_tokens, config); // [B, T, C]
  for (let i = 0; i < config.layers; i++) {
    const { input_layernorm, self_attn, post_attention_layernorm, mlp } = model.layers[i];
    const rope = config.rotates[i] ? tables : undefined;
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

/** The SmolLM3 family, `"model_type": "smollm3"`. */
export const smollm3: Family<Smollm3Config, LlamaParams, TokenInput> = {
  name: "smollm3",
  title: "SmolLM3",
  parse,
  params: llamaModel,
  basePrefix: "model",
  inputs: ["attentionMask", "segments"],
  maxLength: (config) => config.maxLength,
  dropouts: ATTENTION_DROPOUT,
  hidden,
  heads: {
    SmolLM3ForCausalLM: lmHead,
    SmolLM3ForSequenceClassification: lastTokenHead(),
    SmolLM3Model: baseHead(),
  },
};
