/**
 * The part of `config.json` that Llama-like decoders share.
 *
 * @module
 */

import { counted } from "../counted.ts";
import type { RopeConfig } from "../nn/rope.ts";
import { type ActivationName, type ActivationOptions, readActivation } from "./activation.ts";
import { type ClassConfig, readClasses } from "./class_head.ts";
import type { ConfigReader } from "./config_reader.ts";
import type { DropoutDefaults } from "./dropout.ts";
import { longest, readRope, type RopeOptions } from "./rope_config.ts";

/** The values of `config.json` that Llama-like decoders share. */
export interface DecoderConfig extends ClassConfig {
  /** Channels C. */
  readonly hiddenSize: number;
  /** Channels of the feed-forward layers. */
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
  /** The id of the padding, whose embedding is not trained; null for none. */
  readonly padding: number | null;
  /** Longest sequence, in tokens. */
  readonly maxLength: number;
  /** Added to the mean square in norms. */
  readonly eps: number;
  /** Rotary positions. */
  readonly rope: RopeConfig;
  /** The head is the embedding. */
  readonly tied: boolean;
  /** The activation of the feed-forward layers. */
  readonly activation: ActivationName;
}

/**
 * Fields of `transformers` that change what a model computes or how it is trained, each with the one value that changes
 * nothing. Null stands for a field that must be absent. What families compute themselves is read where they are parsed.
 */
const NEUTRAL: Readonly<Record<string, string | number | boolean | null>> = {
  attn_pdrop: 0,
  embd_pdrop: 0,
  hidden_dropout: 0,
  resid_pdrop: 0,
  add_cross_attention: false,
  is_encoder_decoder: false,
  rope_interleaved: false,
  use_mrope: false,
  embedding_multiplier: 1,
  logit_scale: 1,
  logits_scaling: 1,
  residual_multiplier: 1,
  attention_multiplier: null,
  attn_logit_softcapping: null,
  use_bidirectional_attention: false,
  clip_qkv: null,
  compression_config: null,
  final_logit_softcapping: null,
  no_rope_layers: null,
  per_layer_config: null,
  query_pre_attn_scalar: null,
};

const MOST_LAYERS = 10_000;

/** Rates of dropout of decoders that drop weights of attention alone. */
export const ATTENTION_DROPOUT: DropoutDefaults = { attention_dropout: 0 };

/** The defaults of `transformers` for absent keys, where families differ. */
export interface DecoderDefaults {
  /** `max_position_embeddings`. */
  readonly maxLength: number;
  /** `num_key_value_heads`; as many as query heads when absent. */
  readonly kvHeads?: number;
  /** `head_dim`; channels divided by heads when absent. */
  readonly headDim?: number;
  /** `rms_norm_eps`; 1e-6 when absent. */
  readonly eps?: number;
  /** `pad_token_id`; none when absent. */
  readonly padding?: number;
  /** `tie_word_embeddings`; false when absent. */
  readonly tied?: boolean;
  /** Rotary positions: base, rotated share, names of kinds. */
  readonly rope?: Pick<RopeOptions, "theta" | "partial" | "original" | "layer" | "aliases">;
  /** Key and value of the activation; `hidden_act` and silu when absent. */
  readonly activation?: ActivationOptions;
  /** Keys that the family reads itself, though others must have the neutral value. */
  readonly own?: readonly string[];
}

/** The activation of a configuration that names none. */
const SILU = { key: "hidden_act", name: "silu" } as const;

/**
 * Reads the common part of a decoder's configuration.
 *
 * @param read The configuration
 * @param defaults Values of absent keys
 * @returns Sizes, rotary positions, whether the head is tied
 * @throws {InputError} When a value is missing, of the wrong kind or not supported
 */
export function readDecoder(read: ConfigReader, defaults: DecoderDefaults): DecoderConfig {
  const hiddenSize = read.count("hidden_size"), heads = read.count("num_attention_heads");
  const headDim = read.count("head_dim", defaults.headDim ?? hiddenSize / heads);
  // In transformers, null is as many as query heads, and an absent key is the default of the family.
  const kvHeads = read.countOrNull("num_key_value_heads", defaults.kvHeads ?? heads) ?? heads;
  if (heads % kvHeads !== 0) {
    throw read.error("num_key_value_heads", `it must divide num_attention_heads ${heads}`, kvHeads);
  }
  checkNeutral(read, defaults.own);
  const layers = readLayers(read, "num_hidden_layers"), vocabSize = read.count("vocab_size");
  const positions = read.count("max_position_embeddings", defaults.maxLength);
  const rope = readRope(read, { ...defaults.rope, dim: headDim, maxLength: positions });
  return {
    ...readClasses(read),
    hiddenSize,
    heads,
    kvHeads,
    headDim,
    intermediateSize: read.count("intermediate_size"),
    layers,
    vocabSize,
    padding: readPadding(read, { vocabSize, padding: defaults.padding }),
    maxLength: longest(rope, positions),
    eps: read.number("rms_norm_eps", defaults.eps ?? 1e-6),
    rope,
    tied: read.boolean("tie_word_embeddings", defaults.tied ?? false),
    activation: readActivation(read, defaults.activation ?? SILU),
  };
}

/**
 * Reads the id of the padding. PyTorch counts a negative one from the end of the table. A table without such a row has none
 * to leave untrained.
 *
 * @param read The configuration
 * @param options The id where the key is absent, none when absent, and the entries of the vocabulary
 * @returns The id, or null for none
 * @throws {InputError} When it is no whole number
 */
export function readPadding(
  read: ConfigReader,
  { padding = null, vocabSize }: { readonly padding?: number | null; readonly vocabSize: number },
): number | null {
  const seen = read.wholeOrNull("pad_token_id", padding);
  const id = seen !== null && seen < 0 ? vocabSize + seen : seen;
  return id !== null && id >= 0 && id < vocabSize ? id : null;
}

/**
 * Refuses fields that change what a model computes in a way that its family does not know.
 *
 * @param read The configuration
 * @param own Keys that the family reads itself
 * @throws {InputError} When one has another value than the neutral one
 */
export function checkNeutral(read: ConfigReader, own: readonly string[] = []): void {
  for (const [key, value] of Object.entries(NEUTRAL)) if (!own.includes(key)) read.only(key, value);
}

/**
 * Reads the number of layers, within a bound on work that is done before the file is compared with the configuration.
 *
 * @param read The configuration
 * @param key Where the number stands
 * @returns The number
 * @throws {InputError} When it is missing or out of bounds
 */
export function readLayers(read: ConfigReader, key: string): number {
  const layers = read.count(key);
  if (layers > MOST_LAYERS) throw read.error(key, `it must be at most ${MOST_LAYERS}`, layers);
  return layers;
}

/**
 * Reads the attention window of each layer from `layer_types`.
 *
 * @param read The configuration
 * @param options `layers`: how many; `window`: positions that sliding layers see, null for none; `sliding`: whether a
 * layer is a sliding one, used when the configuration has no `layer_types`
 * @returns Positions that each layer sees, null for all
 * @throws {InputError} When a kind of layer is not supported, or a sliding layer has no window
 */
export function readWindows(
  read: ConfigReader,
  options: {
    readonly layers: number;
    readonly window: number | null;
    readonly sliding: (layer: number) => boolean;
  },
): readonly (number | null)[] {
  const { layers, window, sliding } = options;
  const types = read.strings("layer_types") ??
    Array.from({ length: layers }, (_, i) => window !== null && sliding(i) ? SLIDING : FULL);
  if (types.length !== layers) {
    throw read.error("layer_types", `it must have ${counted(layers, "entry")}, one for each layer`, types);
  }
  return types.map((type) => {
    if (type === FULL) return null;
    if (type !== SLIDING) throw read.error("layer_types", `entries must be "${FULL}" or "${SLIDING}"`, type);
    if (window === null) {
      throw read.error("layer_types", `"${SLIDING}" needs a sliding_window that is in use`, types);
    }
    return window;
  });
}

/**
 * Reads the attention windows of families whose upper layers may slide: layers from `max_window_layers` on have a window
 * if `use_sliding_window` is true.
 *
 * @param read The configuration
 * @param options `layers`: how many
 * @returns Positions that each layer sees, null for all
 * @throws {InputError} As {@link readWindows}
 */
export function readUpperWindows(
  read: ConfigReader,
  { layers }: { readonly layers: number },
): readonly (number | null)[] {
  const window = read.boolean("use_sliding_window", false) ? read.countOrNull("sliding_window", 4096) : null;
  const first = read.idOrNull("max_window_layers", 28) ?? 0;
  return readWindows(read, { layers, window, sliding: (layer) => layer >= first });
}

const FULL = "full_attention", SLIDING = "sliding_attention";
