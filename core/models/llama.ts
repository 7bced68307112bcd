/**
 * Llama: decoder-only, pre-norm, rotary positions, grouped key heads, gated MLP.
 *
 * Axes: B batch, T time, C channels, H query heads, G key heads, D head size, V vocabulary.
 *
 * @module
 */

import { linear, type LinearParams } from "../nn/linear.ts";
import { type RopeOptions, ropeTables } from "../nn/rope.ts";
import { attention } from "../ops/attention.ts";
import { silu } from "../ops/activations.ts";
import { add, multiply } from "../ops/arithmetic.ts";
import { embedding } from "../ops/embedding.ts";
import { rmsNorm } from "../ops/rms_norm.ts";
import { rotary } from "../ops/rotary.ts";
import { reshape } from "../ops/movement.ts";
import type { Tensor } from "../tensor.ts";
import type { Path } from "../tree.ts";
import type { ConfigReader, Family } from "./family.ts";

/** What of `config.json` the model depends on. */
export interface LlamaConfig {
  /** Channels C. */
  readonly hiddenSize: number;
  /** Channels of the MLP. */
  readonly intermediateSize: number;
  /** Blocks. */
  readonly layers: number;
  /** Query heads H. */
  readonly heads: number;
  /** Key and value heads G; divides H. */
  readonly kvHeads: number;
  /** Elements of a head D, even. */
  readonly headDim: number;
  /** Entries of the vocabulary V. */
  readonly vocabSize: number;
  /** Longest sequence, in tokens. */
  readonly maxLength: number;
  /** Added to the mean square in norms. */
  readonly eps: number;
  /** Base of the wavelengths of rotary positions. */
  readonly ropeTheta: number;
  /** Stretching of long wavelengths, as in Llama 3.1. */
  readonly llama3?: RopeOptions["llama3"];
  /** The head is the embedding. */
  readonly tied: boolean;
  /** Projections of the attention have a bias. */
  readonly attentionBias: boolean;
  /** Projections of the MLP have a bias. */
  readonly mlpBias: boolean;
}

/** Parameters of one block, named as in the checkpoint. */
export interface LlamaLayer {
  /** f32 [C], before the attention. */
  readonly input_layernorm: { readonly weight: Tensor };
  /** Projections of the attention. */
  readonly self_attn: { readonly [name in "q_proj" | "k_proj" | "v_proj" | "o_proj"]: LinearParams };
  /** f32 [C], before the MLP. */
  readonly post_attention_layernorm: { readonly weight: Tensor };
  /** Projections of the MLP. */
  readonly mlp: { readonly [name in "gate_proj" | "up_proj" | "down_proj"]: LinearParams };
}

/** Parameters of the model, named as in the checkpoint. */
export interface LlamaParams {
  /** Everything but the head: embedding f32 [V, C], blocks by index, last norm f32 [C]. */
  readonly model: {
    readonly embed_tokens: { readonly weight: Tensor };
    readonly layers: { readonly [index: string]: LlamaLayer };
    readonly norm: { readonly weight: Tensor };
  };
  /** f32 [V, C]; absent where the head is the embedding. */
  readonly lm_head?: { readonly weight: Tensor };
}

function parse(read: ConfigReader): LlamaConfig {
  const hiddenSize = read.count("hidden_size"), heads = read.count("num_attention_heads");
  const place = read.record("rope_parameters") === null ? "rope_scaling" : "rope_parameters";
  const rope = read.record(place) ?? {};
  const ropeNumber = (key: string): number => {
    const value = rope[key];
    if (typeof value === "number" && value > 0) return value;
    throw read.error(`${place}.${key}`, "it must be a positive number", value);
  };
  const type = rope.rope_type ?? rope.type ?? "default";
  if (type !== "default" && type !== "llama3") {
    throw read.error(`${place}.rope_type`, 'it must be "default" or "llama3"', type);
  }
  const activation = read.string("hidden_act", "silu");
  if (activation !== "silu") throw read.error("hidden_act", 'it must be "silu"', activation);
  const config: LlamaConfig = {
    hiddenSize,
    heads,
    intermediateSize: read.count("intermediate_size"),
    layers: read.count("num_hidden_layers"),
    kvHeads: read.count("num_key_value_heads", heads),
    headDim: read.count("head_dim", hiddenSize / heads),
    vocabSize: read.count("vocab_size"),
    maxLength: read.count("max_position_embeddings", 2048),
    eps: read.number("rms_norm_eps", 1e-6),
    ropeTheta: rope.rope_theta === undefined ? read.number("rope_theta", 10000) : ropeNumber("rope_theta"),
    llama3: type === "llama3"
      ? {
        factor: ropeNumber("factor"),
        lowFreqFactor: ropeNumber("low_freq_factor"),
        highFreqFactor: ropeNumber("high_freq_factor"),
        originalLength: ropeNumber("original_max_position_embeddings"),
      }
      : undefined,
    tied: read.boolean("tie_word_embeddings", false),
    attentionBias: read.boolean("attention_bias", false),
    mlpBias: read.boolean("mlp_bias", false),
  };
  if (config.headDim % 2 !== 0) {
    throw read.error("head_dim", "rotary positions need an even number", config.headDim);
  }
  if (heads % config.kvHeads !== 0) {
    throw read.error("num_key_value_heads", `it must divide num_attention_heads ${heads}`, config.kvHeads);
  }
  return config;
}

function shapes(config: LlamaConfig): Map<Path, readonly number[]> {
  const { hiddenSize: c, intermediateSize: f, headDim: d, heads, kvHeads, vocabSize: v } = config;
  const all = new Map<Path, readonly number[]>([["model.embed_tokens.weight", [v, c]]]);
  const layer = (at: Path, [out, width]: readonly [number, number], bias: boolean): void => {
    all.set(`${at}.weight`, [out, width]);
    if (bias) all.set(`${at}.bias`, [out]);
  };
  for (let i = 0; i < config.layers; i++) {
    const at = `model.layers.${i}`;
    all.set(`${at}.input_layernorm.weight`, [c]);
    layer(`${at}.self_attn.q_proj`, [heads * d, c], config.attentionBias);
    layer(`${at}.self_attn.k_proj`, [kvHeads * d, c], config.attentionBias);
    layer(`${at}.self_attn.v_proj`, [kvHeads * d, c], config.attentionBias);
    layer(`${at}.self_attn.o_proj`, [c, heads * d], config.attentionBias);
    all.set(`${at}.post_attention_layernorm.weight`, [c]);
    layer(`${at}.mlp.gate_proj`, [f, c], config.mlpBias);
    layer(`${at}.mlp.up_proj`, [f, c], config.mlpBias);
    layer(`${at}.mlp.down_proj`, [c, f], config.mlpBias);
  }
  all.set("model.norm.weight", [c]);
  if (!config.tied) all.set("lm_head.weight", [v, c]);
  return all;
}

function hidden({ model }: LlamaParams, ids: Tensor, options: LlamaOptions): Tensor {
  const { config, loraScale } = options;
  const [batch, time] = ids.shape;
  const rope = ropeTables({
    theta: config.ropeTheta,
    dim: config.headDim,
    length: time,
    llama3: config.llama3,
  });
  const split = (x: Tensor, heads: number): Tensor => reshape(x, [batch, time, heads, config.headDim]);
  const project = (x: Tensor, params: LinearParams): Tensor => linear(x, params, { loraScale });

  let x = embedding(model.embed_tokens.weight, ids); // [B, T, C]
  for (let i = 0; i < config.layers; i++) {
    const { input_layernorm, self_attn, post_attention_layernorm, mlp } = model.layers[i];
    const a = rmsNorm(x, input_layernorm.weight, config);
    const q = rotary(split(project(a, self_attn.q_proj), config.heads), rope); // [B, T, H, D]
    const k = rotary(split(project(a, self_attn.k_proj), config.kvHeads), rope); // [B, T, G, D]
    const v = split(project(a, self_attn.v_proj), config.kvHeads); // [B, T, G, D]
    const mixed = reshape(attention(q, { k, v }), [batch, time, config.heads * config.headDim]);
    x = add(x, project(mixed, self_attn.o_proj));
    const m = rmsNorm(x, post_attention_layernorm.weight, config);
    const gated = multiply(silu(project(m, mlp.gate_proj)), project(m, mlp.up_proj));
    x = add(x, project(gated, mlp.down_proj));
  }
  return rmsNorm(x, model.norm.weight, config);
}

interface LlamaOptions {
  readonly config: LlamaConfig;
  readonly loraScale?: number;
}

/** The Llama family, `"model_type": "llama"`. */
export const llama: Family<LlamaConfig, LlamaParams> = {
  name: "llama",
  architecture: "LlamaForCausalLM",
  parse,
  shapes,
  ignores: (key, { tied }) => key.endsWith(".rotary_emb.inv_freq") || (tied && key === "lm_head.weight"),
  hidden,
  head: (params) => params.lm_head?.weight ?? params.model.embed_tokens.weight,
  maxLength: (config) => config.maxLength,
  vocabSize: (config) => config.vocabSize,
  normal: (path) => path.endsWith("norm.weight") ? null : 0.02,
};
