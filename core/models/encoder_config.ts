/**
 * The part of `config.json` that encoders share.
 *
 * @module
 */

import { reshape, slice } from "../ops/movement.ts";
import type { Tensor } from "../tensor.ts";
import { type ActivationName, readActivation } from "./activation.ts";
import type { ConfigReader } from "./config_reader.ts";
import { readLayers } from "./decoder_config.ts";

/** The values of `config.json` that encoders share. */
export interface EncoderConfig {
  /** Channels C. */
  readonly hiddenSize: number;
  /** Channels of the feed-forward layers. */
  readonly intermediateSize: number;
  /** Blocks. */
  readonly layers: number;
  /** Heads H. */
  readonly heads: number;
  /** Key and value heads; as many as H. */
  readonly kvHeads: number;
  /** Elements of a head D. */
  readonly headDim: number;
  /** Added to the variance in norms. */
  readonly eps: number;
  /** The activation of the feed-forward layers. */
  readonly activation: ActivationName;
}

/** Keys of `config.json`, where a family has its own. */
export interface EncoderKeys {
  readonly hiddenSize: string;
  readonly intermediateSize: string;
  readonly layers: string;
  readonly heads: string;
  readonly activation: string;
}

const KEYS: EncoderKeys = {
  hiddenSize: "hidden_size",
  intermediateSize: "intermediate_size",
  layers: "num_hidden_layers",
  heads: "num_attention_heads",
  activation: "hidden_act",
};

/** What would make an encoder another model, each with the one value that changes nothing; null stands for an absent field. */
const NEUTRAL: Readonly<Record<string, string | number | boolean | null>> = {
  add_cross_attention: false,
  is_decoder: false,
  is_encoder_decoder: false,
  position_embedding_type: "absolute",
  embedding_size: null,
  head_dim: null,
};

/** The defaults of `transformers` for absent keys, where families differ. */
export interface EncoderDefaults {
  /** `layer_norm_eps`; 1e-12 when absent. */
  readonly eps?: number;
  /** The activation; exact gelu when absent. */
  readonly activation?: ActivationName;
  /** Sizes; they must be there when absent. */
  readonly sizes?: Readonly<Partial<Record<"hiddenSize" | "intermediateSize" | "layers" | "heads", number>>>;
  /** Names of keys; those of BERT when absent. */
  readonly keys?: EncoderKeys;
}

/**
 * Reads the common part of an encoder's configuration.
 *
 * @param read The configuration
 * @param defaults Values of absent keys, and names of keys
 * @returns Sizes, activation
 * @throws {InputError} When a value is missing, of the wrong kind or not supported
 */
export function readEncoder(read: ConfigReader, defaults: EncoderDefaults = {}): EncoderConfig {
  const { keys = KEYS, sizes = {}, activation = "gelu", eps = 1e-12 } = defaults;
  const hiddenSize = read.count(keys.hiddenSize, sizes.hiddenSize),
    heads = read.count(keys.heads, sizes.heads);
  if (hiddenSize % heads !== 0) {
    throw read.error(keys.heads, `it must divide ${keys.hiddenSize} ${hiddenSize}`, heads);
  }
  for (const [key, value] of Object.entries(NEUTRAL)) read.only(key, value);
  return {
    hiddenSize,
    heads,
    kvHeads: heads,
    headDim: hiddenSize / heads,
    intermediateSize: read.count(keys.intermediateSize, sizes.intermediateSize),
    layers: readLayers(read, keys.layers),
    eps: read.number("layer_norm_eps", eps),
    activation: readActivation(read, { key: keys.activation, name: activation }),
  };
}

/**
 * The hidden state of the first position, a class token.
 *
 * @param hidden f32 [B, T, C]
 * @returns f32 [B, C]
 */
export function firstOf(hidden: Tensor): Tensor {
  const [batch, , size] = hidden.shape;
  return reshape(slice(hidden, { starts: [0, 0, 0], sizes: [batch, 1, size] }), [batch, size]);
}
