/**
 * `adapter_config.json` of PEFT: what is honoured, kept and refused.
 *
 * @module
 */

import { configReader } from "../models/config_reader.ts";

/** What the pairs of an adapter depend on. */
export interface AdapterConfig {
  /** Rank of every pair. */
  readonly rank: number;
  /** alpha / r, or alpha / sqrt(r) with `use_rslora`. */
  readonly loraScale: number;
  /** Layers that have pairs; null for all. */
  readonly layers: readonly number[] | null;
}

/**
 * Fields that are honoured, or that change nothing once an adapter is trained. Any other field must be absent, null, false
 * or empty: it would change what the adapter computes.
 */
const KNOWN: readonly string[] = [
  "auto_mapping",
  "base_model_name_or_path",
  "bias",
  "corda_config",
  "ensure_weight_tying",
  "eva_config",
  "exclude_modules",
  // The model knows which of its weights are [in, out].
  "fan_in_fan_out",
  "inference_mode",
  "init_lora_weights",
  "layers_pattern",
  "layers_to_transform",
  "loftq_config",
  "lora_alpha",
  "lora_dropout",
  "lora_ga_config",
  "megatron_core",
  "peft_type",
  "peft_version",
  "qalora_group_size",
  "r",
  "revision",
  "target_modules",
  "task_type",
  "use_rslora",
];

/** Start values of pairs that leave the base model as it is; all others, such as PiSSA, subtract the pairs from it. */
const PLAIN_STARTS: readonly unknown[] = [true, false, "gaussian", "orthogonal", "eva"];

/**
 * Reads the configuration of a LoRA adapter whose pairs share one rank and one factor.
 *
 * @param json Content of `adapter_config.json`
 * @param file Its path, for errors
 * @returns Rank, factor and layers
 * @throws {InputError} When a field changes what the adapter computes in a way that is not supported
 */
export function readAdapterConfig(json: Readonly<Record<string, unknown>>, file: string): AdapterConfig {
  const config = configReader(json, file);
  config.only("peft_type", "LORA");
  config.only("bias", "none");
  for (const [key, value] of Object.entries(json)) {
    if (KNOWN.includes(key) || isNeutral(value)) continue;
    throw config.error(key, "only LoRA pairs of one rank and one factor are supported", value);
  }
  const start = json.init_lora_weights ?? true;
  if (!PLAIN_STARTS.includes(start)) {
    const rule =
      "it changes the base model: convert the adapter with path_initial_model_for_weight_conversion of PEFT";
    throw config.error("init_lora_weights", rule, start);
  }
  const rank = config.count("r"), alpha = config.number("lora_alpha");
  const loraScale = alpha / (config.boolean("use_rslora", false) ? Math.sqrt(rank) : rank);
  const layers = json.layers_to_transform ?? null;
  const chosen = layers === null ? null : [layers].flat() as number[];
  if (chosen !== null && !chosen.every((layer) => Number.isSafeInteger(layer) && layer >= 0)) {
    throw config.error("layers_to_transform", "it must be indices of layers", layers);
  }
  return { rank, loraScale, layers: chosen };
}

function isNeutral(value: unknown): boolean {
  return (value ?? false) === false || typeof value === "object" && Object.keys(value!).length === 0;
}
