/**
 * The configuration of a model in a GGUF file, as a `config.json` of Hugging Face.
 *
 * @module
 */

import { plainFrequencies, scaledFrequencies } from "../../nn/rope_scaling.ts";
import { DataError } from "../../errors.ts";
import type { WeightSpec } from "../weights.ts";
import { type MetadataFields, metadataFields, shortest } from "./metadata.ts";
import { ROPE_FACTORS } from "./names.ts";
import type { GgufFile } from "./open_gguf.ts";

/** Architectures of llama.cpp that are read and written, and what Hugging Face calls their models. */
export const ARCHITECTURES = {
  llama: "LlamaForCausalLM",
  qwen2: "Qwen2ForCausalLM",
  qwen3: "Qwen3ForCausalLM",
} as const;

/** An architecture of llama.cpp that is read and written. */
export type Architecture = keyof typeof ARCHITECTURES;

/** Keys of an architecture that are read here, or that change nothing. Any other one must be 0, false or empty. */
const KNOWN = [
  "attention.head_count",
  "attention.head_count_kv",
  "attention.key_length",
  "attention.layer_norm_rms_epsilon",
  "attention.value_length",
  "block_count",
  "context_length",
  "embedding_length",
  "feed_forward_length",
  "rope.dimension_count",
  "rope.freq_base",
  "rope.scaling.attn_factor",
  "rope.scaling.factor",
  "rope.scaling.finetuned",
  "rope.scaling.original_context_length",
  "rope.scaling.type",
  "rope.scaling.yarn_beta_fast",
  "rope.scaling.yarn_beta_slow",
  "tensor_data_layout",
  "vocab_size",
];

/** A model in a file. */
export interface GgufConfig {
  /** `general.architecture`. */
  readonly architecture: Architecture;
  /** Elements of a head. */
  readonly headDim: number;
  /** What `config.json` would hold. */
  readonly source: Readonly<Record<string, unknown>>;
}

/**
 * Reads the configuration of a model.
 *
 * @param file The file
 * @returns The configuration
 * @throws {DataError} When it is no model of a known architecture, or a value is missing or changes what the model computes
 * in a way that is not known
 */
export async function ggufConfig(file: GgufFile): Promise<GgufConfig> {
  const { path, specs } = file,
    fields = metadataFields(file.metadata, path),
    architecture = architectureOf(fields, path);
  const at = (key: string): string => `${architecture}.${key}`;
  for (const [key, value] of Object.entries(file.metadata)) {
    if (!key.startsWith(`${architecture}.`) || KNOWN.includes(key.slice(architecture.length + 1))) continue;
    // Attention that sees what follows is another model; that it does not see it goes without saying.
    if (key.endsWith(".attention.causal") && value === true) continue;
    if (key.endsWith(".attention.causal")) throw fields.error(key, "absent or true", value);
    const neutral = !value || Array.isArray(value) && value.every((one) => !one);
    if (!neutral) throw fields.error(key, "absent or 0, as it changes what the model computes", value);
  }
  const count = (key: string, fallback?: number): number => countOf(fields, { key: at(key), fallback });
  const hidden = count("embedding_length"), heads = count("attention.head_count");
  const headDim = count("attention.key_length", hidden / heads);
  for (const key of ["attention.value_length", "rope.dimension_count"]) {
    if (count(key, headDim) !== headDim) throw fields.error(at(key), `${headDim}, as of keys`, count(key));
  }
  const has = (name: string): boolean => specs.has(name);
  return {
    architecture,
    headDim,
    source: {
      architectures: [ARCHITECTURES[architecture]],
      model_type: architecture,
      hidden_act: "silu",
      hidden_size: hidden,
      intermediate_size: count("feed_forward_length"),
      num_hidden_layers: count("block_count"),
      num_attention_heads: heads,
      num_key_value_heads: count("attention.head_count_kv", heads),
      head_dim: headDim,
      max_position_embeddings: count("context_length"),
      rms_norm_eps: fields.number(at("attention.layer_norm_rms_epsilon")),
      rope_theta: fields.number(at("rope.freq_base"), 10000),
      rope_scaling: await scalingOf(file, { fields, architecture, headDim }),
      vocab_size: specs.get("token_embd.weight")?.shape[0] ?? count("vocab_size"),
      tie_word_embeddings: !has("output.weight"),
      ...architecture === "llama" && { mlp_bias: has("blk.0.ffn_up.bias") },
      ...architecture !== "qwen2" && { attention_bias: has("blk.0.attn_q.bias") },
      ...idsOf(fields),
      torch_dtype: dtypeOf(specs.get("blk.0.ffn_up.weight")),
    },
  };
}

function architectureOf(fields: MetadataFields, path: string): Architecture {
  const { json } = fields, kind = json["general.type"] ?? "model", name = json["general.architecture"];
  if (kind !== "model") {
    throw fields.error("general.type", '"model"; load adapters from their folder with loadAdapter', kind);
  }
  if (typeof name === "string" && Object.hasOwn(ARCHITECTURES, name)) return name as Architecture;
  const known = Object.keys(ARCHITECTURES).join(", ");
  throw new DataError(
    `Cannot use "${path}" as "general.architecture" must be one of ${known}: got ${
      JSON.stringify(name)?.slice(0, 60)
    }; load the model from its Hugging Face folder`,
  );
}

/** A whole number above 0. A list, one for each layer, must be of equal ones. */
function countOf(
  fields: MetadataFields,
  { key, fallback }: { readonly key: string; readonly fallback?: number },
): number {
  const found = fields.json[key] ?? fallback;
  const value = Array.isArray(found) && found.every((one) => one === found[0]) ? found[0] : found;
  if (Number.isSafeInteger(value) && (value as number) > 0) return value as number;
  throw fields.error(key, "a whole number above 0, the same in all layers", found);
}

/** Ids of special tokens. */
function idsOf(fields: MetadataFields): Record<string, number> {
  const names = { bos: "bos", eos: "eos", pad: "padding" };
  return Object.fromEntries(
    Object.entries(names).flatMap(([name, gguf]) => {
      const key = `tokenizer.ggml.${gguf}_token_id`;
      return fields.json[key] === undefined
        ? []
        : [[`${name}_token_id`, fields.whole(key, { most: 2 ** 31 })]];
    }),
  );
}

function dtypeOf(spec: WeightSpec | undefined): string {
  return spec?.dtype === "BF16" ? "bfloat16" : spec?.dtype === "F16" ? "float16" : "float32";
}

/** `rope_scaling`; null for none. */
async function scalingOf(
  file: GgufFile,
  { fields, architecture, headDim }: {
    readonly fields: MetadataFields;
    readonly architecture: Architecture;
    readonly headDim: number;
  },
): Promise<Record<string, unknown> | null> {
  const at = (key: string): string => `${architecture}.rope.scaling.${key}`;
  const type = fields.word(at("type"), ["none", "linear", "yarn"], "none");
  const length = countOf(fields, { key: `${architecture}.context_length` });
  if (file.specs.has(ROPE_FACTORS)) {
    if (type !== "none") throw fields.error(at("type"), `"none" where there is "${ROPE_FACTORS}"`, type);
    const theta = fields.number(`${architecture}.rope.freq_base`, 10000);
    return await divisors(file, { fields, theta, dim: headDim, length });
  }
  if (type === "none") return null;
  const factor = fields.number(at("factor"));
  if (type === "linear") return { rope_type: "linear", factor };
  const attention = fields.number(at("attn_factor"), 1);
  const optional = (key: string, name: string) =>
    fields.json[at(key)] === undefined ? {} : { [name]: fields.number(at(key)) };
  return {
    rope_type: "yarn",
    factor,
    original_max_position_embeddings: countOf(fields, {
      key: at("original_context_length"),
      fallback: length,
    }),
    ...optional("yarn_beta_fast", "beta_fast"),
    ...optional("yarn_beta_slow", "beta_slow"),
    ...attention !== 1 && { attention_factor: attention * (0.1 * Math.log(factor) + 1) },
  };
}

/** Llama 3.1 and later, as all published models have it. */
const LLAMA3 = { low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };

/** Rotary scaling from a divisor of each frequency: that of Llama 3 where it gives them, else the divisors themselves. */
async function divisors(
  file: GgufFile,
  { fields, theta, dim, length }: {
    readonly fields: MetadataFields;
    readonly theta: number;
    readonly dim: number;
    readonly length: number;
  },
): Promise<Record<string, unknown> | null> {
  const { shape } = file.specs.get(ROPE_FACTORS)!;
  if (shape.length !== 1 || shape[0] !== dim / 2) {
    throw fields.error(ROPE_FACTORS, `of the shape [${dim / 2}]`, shape.join(", "));
  }
  const factors = [...await file.readF32(ROPE_FACTORS)];
  const bad = factors.find((factor) => !(factor > 0 && factor < Infinity));
  if (bad !== undefined) throw fields.error(ROPE_FACTORS, "of positive numbers", bad);
  if (factors.every((factor) => factor === 1)) return null;
  const factor = shortest(Math.max(...factors)), turn = { theta, dim, length };
  const scaled = scaledFrequencies({
    type: "llama3",
    factor,
    lowFreqFactor: LLAMA3.low_freq_factor,
    highFreqFactor: LLAMA3.high_freq_factor,
    originalLength: LLAMA3.original_max_position_embeddings,
  }, turn);
  const plain = plainFrequencies(turn);
  if (factors.every((divisor, i) => Math.abs(plain[i] / scaled[i] / divisor - 1) < 1e-5)) {
    return { rope_type: "llama3", factor, ...LLAMA3 };
  }
  return {
    rope_type: "longrope",
    short_factor: factors,
    long_factor: factors,
    attention_factor: 1,
    original_max_position_embeddings: length,
  };
}
