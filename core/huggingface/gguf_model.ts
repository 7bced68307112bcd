/**
 * What llama.cpp needs to know of a model.
 *
 * @module
 */

import { type Architecture, ARCHITECTURES } from "../data/gguf/config.ts";
import { ggufNameOf } from "../data/gguf/names.ts";
import type { TypedValue } from "../data/gguf/write_gguf.ts";
import { InputError } from "../errors.ts";
import type { DecoderConfig } from "../models/decoder_config.ts";
import { headOf, type Model } from "../models/model.ts";
import { plainFrequencies, type RopeScaling, scaledFrequencies } from "../nn/rope_scaling.ts";

/** A model as llama.cpp has it. */
export interface GgufModel {
  /** `general.architecture`. */
  readonly architecture: Architecture;
  /** Elements of a head. */
  readonly headDim: number;
  /** Rows of the table of embeddings. */
  readonly vocabSize: number;
  /** Metadata of the architecture. */
  readonly metadata: Readonly<Record<string, TypedValue>>;
  /** Divisors of rotary frequencies; null for none. */
  readonly ropeFactors: readonly number[] | null;
  /** The name that llama.cpp has for a tensor. */
  nameOf(key: string): string | undefined;
  /** An error about something of the model. */
  error(what: string, rule: string): InputError;
}

/** The architecture of a family. llama.cpp runs a Mistral without windows as a Llama. */
const OF_FAMILY: Readonly<Record<string, Architecture>> = {
  llama: "llama",
  mistral: "llama",
  qwen2: "qwen2",
  qwen3: "qwen3",
};

/** What families add to the configuration of a decoder. */
interface Config extends DecoderConfig {
  readonly windows?: readonly (number | null)[];
  readonly attentionBias?: boolean;
}

/**
 * Describes a model for llama.cpp.
 *
 * @param model The model
 * @param path The file that is written, for errors
 * @returns The description
 * @throws {InputError} When llama.cpp has no model that computes the same
 */
export function ggufModel<I extends object>(model: Model<object, I>, path: string): GgufModel {
  const error = (what: string, rule: string) =>
    new InputError(
      `Cannot save "${path}" as ${what} must be ${rule}: save the model as a folder with saveModel`,
    );
  const { family: { name: family }, architecture: head } = model;
  if (!Object.hasOwn(OF_FAMILY, family) || headOf(model).task !== "nextToken") {
    throw error(`"${head}"`, `one of ${Object.values(ARCHITECTURES).join(", ")}`);
  }
  const architecture = OF_FAMILY[family], config = model.config as Config, { rope, headDim } = config;
  if (config.activation !== "silu" && config.activation !== "swish") throw error('"hidden_act"', "silu");
  if (config.windows?.some((window) => window !== null && window < config.maxLength)) {
    throw error("the window of attention", "as long as the longest sequence");
  }
  if (architecture === "qwen3" && config.attentionBias) throw error('"attention_bias"', "false");
  if (rope.dim !== headDim) throw error('"partial_rotary_factor"', "1");
  const { metadata, factors } = scalingOf(rope.scaling, { rope, error });
  const values: Readonly<Record<string, TypedValue>> = {
    vocab_size: ["u32", config.vocabSize],
    context_length: ["u32", config.maxLength],
    embedding_length: ["u32", config.hiddenSize],
    block_count: ["u32", config.layers],
    feed_forward_length: ["u32", config.intermediateSize],
    "attention.head_count": ["u32", config.heads],
    "attention.head_count_kv": ["u32", config.kvHeads],
    "attention.key_length": ["u32", headDim],
    "attention.value_length": ["u32", headDim],
    "attention.layer_norm_rms_epsilon": ["f32", config.eps],
    "rope.dimension_count": ["u32", rope.dim],
    "rope.freq_base": ["f32", rope.theta],
    ...metadata,
  };
  return {
    architecture,
    headDim,
    vocabSize: config.vocabSize,
    metadata: Object.fromEntries(
      Object.entries(values).map(([key, value]) => [`${architecture}.${key}`, value]),
    ),
    ropeFactors: factors,
    nameOf: (key) => ggufNameOf(key) ?? undefined,
    error,
  };
}

/** Rotary scaling: as metadata, or as a divisor of each frequency. */
function scalingOf(
  scaling: RopeScaling | undefined,
  { rope, error }: { readonly rope: DecoderConfig["rope"]; readonly error: GgufModel["error"] },
): { readonly metadata: Readonly<Record<string, TypedValue>>; readonly factors: readonly number[] | null } {
  const linear = (type: string, factor: number): Record<string, TypedValue> => ({
    "rope.scaling.type": ["string", type],
    "rope.scaling.factor": ["f32", factor],
  });
  switch (scaling?.type) {
    case undefined:
      return { metadata: {}, factors: null };
    case "linear":
      return { metadata: linear("linear", scaling.factor), factors: null };
    case "yarn": {
      if (!scaling.truncate) throw error('"truncate" of yarn', "true");
      const attention = scaling.attentionFactor / (0.1 * Math.log(scaling.factor) + 1);
      return {
        metadata: {
          ...linear("yarn", scaling.factor),
          "rope.scaling.original_context_length": ["u32", scaling.originalLength],
          "rope.scaling.yarn_beta_fast": ["f32", scaling.betaFast],
          "rope.scaling.yarn_beta_slow": ["f32", scaling.betaSlow],
          ...Math.abs(attention - 1) > 1e-6 && { "rope.scaling.attn_factor": ["f32", attention] as const },
        },
        factors: null,
      };
    }
    case "llama3": {
      const turn = { ...rope, length: 1 }, scaled = scaledFrequencies(scaling, turn);
      return { metadata: {}, factors: plainFrequencies(turn).map((frequency, i) => frequency / scaled[i]) };
    }
    case "longrope": {
      const { shortFactor, longFactor, attentionFactor } = scaling;
      if (attentionFactor !== 1 || shortFactor.some((factor, i) => factor !== longFactor[i])) {
        throw error("longrope", "of equal short and long factors");
      }
      return { metadata: {}, factors: shortFactor };
    }
    case "dynamic":
      throw error("rotary scaling", "another kind than dynamic");
  }
}
