/**
 * Phi-3: one projection to queries, keys and values, one to gates and values, and partly rotated heads.
 *
 * Source: Abdin et al., "Phi-3 Technical Report", arXiv 2404.14219, section 2; names are those of `transformers`.
 *
 * Axes: B batch, T time, C channels, H query heads, G key heads, D head size, F hidden channels.
 *
 * @module
 */

import { attend, type AttendOptions } from "../nn/attention.ts";
import { embedding, embeddingParams, type EmbeddingSpec } from "../nn/embedding.ts";
import { linear, linearParams, type LinearSpec } from "../nn/linear.ts";
import { normParams, type NormSpec, rmsNorm } from "../nn/norm.ts";
import { paddingLimits } from "../nn/padding.ts";
import { type Layers, type ParamsOf, repeat } from "../nn/params.ts";
import { ropeTables } from "../nn/rope.ts";
import { add, multiply } from "../ops/arithmetic.ts";
import { reshape, slice } from "../ops/movement.ts";
import type { Tensor } from "../tensor.ts";
import { activationOf } from "./activation.ts";
import type { ConfigReader } from "./config_reader.ts";
import { type DecoderConfig, readDecoder, readWindows } from "./decoder_config.ts";
import { dropping } from "../nn/dropout.ts";
import type { Family, HiddenOptions, TokenInput } from "./family.ts";
import { lastTokenHead } from "./last_token_head.ts";
import { baseHead, lmHead, type LmHeadParams } from "./lm_head.ts";

/** The values of `config.json` that the model depends on. */
export interface Phi3Config extends DecoderConfig {
  /** How many positions the attention of each layer sees; null for all. */
  readonly windows: readonly (number | null)[];
}

function parse(read: ConfigReader): Phi3Config {
  const config = readDecoder(read, {
    own: ["resid_pdrop"],
    maxLength: 4096,
    padding: 32000,
    eps: 1e-5,
    // Checkpoints of the first versions have other names for the same kind.
    rope: { partial: 1, original: 4096, aliases: { su: "longrope", yarn: "longrope" } },
  });
  for (const key of ["attention_bias", "mlp_bias"]) read.only(key, false);
  const window = read.countOrNull("sliding_window", null);
  return { ...config, windows: readWindows(read, { layers: config.layers, window, sliding: () => true }) };
}

/**
 * Declares a block.
 *
 * @internal
 */
export const phi3Layer = (c: Phi3Config) => ({
  input_layernorm: normParams(c.hiddenSize) as NormSpec,
  self_attn: {
    qkv_proj: linearParams([(c.heads + 2 * c.kvHeads) * c.headDim, c.hiddenSize]) as LinearSpec,
    o_proj: linearParams([c.hiddenSize, c.heads * c.headDim]) as LinearSpec,
  },
  post_attention_layernorm: normParams(c.hiddenSize) as NormSpec,
  mlp: {
    gate_up_proj: linearParams([2 * c.intermediateSize, c.hiddenSize]) as LinearSpec,
    down_proj: linearParams([c.hiddenSize, c.intermediateSize]) as LinearSpec,
  },
});

/**
 * Declares all parameters but the head.
 *
 * @internal
 */
export const phi3Model = (c: Phi3Config) => ({
  model: {
    embed_tokens: embeddingParams([c.vocabSize, c.hiddenSize]) as EmbeddingSpec,
    layers: repeat(c.layers, phi3Layer(c)) as Layers<ReturnType<typeof phi3Layer>>,
    norm: normParams(c.hiddenSize) as NormSpec,
  },
});

/** Parameters of the model, named as in the checkpoint. */
export type Phi3Params = ParamsOf<typeof phi3Model> & LmHeadParams;

type Phi3Layer = ParamsOf<typeof phi3Layer>;
type Options = AttendOptions & Pick<HiddenOptions<Phi3Config>, "config" | "loraScale">;

function attentionOf(x: Tensor, { qkv_proj, o_proj }: Phi3Layer["self_attn"], options: Options): Tensor {
  const { heads, kvHeads, headDim } = options.config, [batch, time] = x.shape;
  const all = reshape(linear(x, qkv_proj, options), [batch, time, heads + 2 * kvHeads, headDim]);
  const part = (from: number, count: number): Tensor =>
    slice(all, { starts: [0, 0, from, 0], sizes: [batch, time, count, headDim] });
  const parts = { q: part(0, heads), k: part(heads, kvHeads), v: part(heads + kvHeads, kvHeads) };
  return linear(attend(parts, options), o_proj, options);
}

function feedForward(
  x: Tensor,
  { gate_up_proj, down_proj }: Phi3Layer["mlp"],
  options: Pick<HiddenOptions<Phi3Config>, "config" | "loraScale">,
): Tensor {
  const { intermediateSize: f, activation } = options.config, [batch, time] = x.shape;
  const both = linear(x, gate_up_proj, options);
  const part = (from: number): Tensor => slice(both, { starts: [0, 0, from], sizes: [batch, time, f] });
  return linear(multiply(activationOf(activation)(part(0)), part(f)), down_proj, options);
}

function hidden(
  { model }: Phi3Params,
  { inputIds, attentionMask, segments }: TokenInput,
  { config, loraScale, dropout }: HiddenOptions<Phi3Config>,
): Tensor {
  const rope = ropeTables(config.rope, { length: inputIds.shape[1] }), drop = dropping(dropout);
  const limits = { ...paddingLimits(attentionMask), segments };
  let x = embedding(inputIds, model.embed_tokens, config); // [B, T, C]
  for (let i = 0; i < config.layers; i++) {
    const { input_layernorm, self_attn, post_attention_layernorm, mlp } = model.layers[i];
    const options = {
      config,
      loraScale,
      dropout: dropout?.weights("attention_dropout"),
      rope,
      limits,
      window: config.windows[i],
    };
    const seen = attentionOf(rmsNorm(x, input_layernorm, config), self_attn, options);
    x = add(x, drop(seen, "resid_pdrop"));
    const fed = feedForward(rmsNorm(x, post_attention_layernorm, config), mlp, options);
    x = add(x, drop(fed, "resid_pdrop"));
  }
  return rmsNorm(x, model.norm, config);
}

/** The Phi-3 family, `"model_type": "phi3"`. */
export const phi3: Family<Phi3Config, Phi3Params, TokenInput> = {
  name: "phi3",
  title: "Phi-3 and 3.5",
  parse,
  params: phi3Model,
  basePrefix: "model",
  inputs: ["attentionMask", "segments"],
  maxLength: (config) => config.maxLength,
  dropouts: { attention_dropout: 0, resid_pdrop: 0 },
  hidden,
  heads: { Phi3ForCausalLM: lmHead, Phi3ForSequenceClassification: lastTokenHead(), Phi3Model: baseHead() },
};
