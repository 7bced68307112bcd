/**
 * `adapter_config.json` of PEFT: what is honoured, kept and refused.
 *
 * @module
 */

import { type ConfigReader, configReader } from "../models/config_reader.ts";
import { isRecord } from "../json_rules.ts";
import { expression } from "./expression.ts";

/** What an adapter is, as its configuration says it. */
export interface AdapterConfig {
  /** Rank of pairs whose module is in no pattern. */
  readonly rank: number;
  /** Alpha of pairs whose module is in no pattern. */
  readonly alpha: number;
  /** Ranks of modules, by what their names match. */
  readonly rankPattern: readonly Pattern[];
  /** Alphas of modules, by what their names match. */
  readonly alphaPattern: readonly Pattern[];
  /** Whether alpha is divided by the root of the rank. */
  readonly stable: boolean;
  /** Whether pairs have magnitudes. */
  readonly dora: boolean;
  /** Whether second matrices have a bias. */
  readonly bias: boolean;
  /** Share of the input of pairs that training drops. */
  readonly dropout: number;
  /** Names of adapted modules or their ends, or one expression; null for what PEFT adapts in the family. */
  readonly targets: string | readonly string[] | null;
  /** Names of modules that are not adapted, or their ends, or one expression. */
  readonly excluded: string | readonly string[];
  /** Layers whose modules are adapted; null for all. */
  readonly layers: readonly number[] | null;
  /** Names of what holds layers; any where there is none. */
  readonly layersPattern: readonly string[];
  /** Which biases of the base are trained. */
  readonly trainedBiases: "none" | "all" | "lora_only";
  /** Ends of the names of modules of which the adapter has a copy. */
  readonly saved: readonly string[];
  /** How pairs start. */
  readonly start: string | boolean;
}

/** A number for modules whose name matches. */
export interface Pattern {
  /** Whether a name, or its end after a dot, matches. */
  readonly holds: (name: string) => boolean;
  /** The number. */
  readonly value: number;
}

/** Fields that change what the adapter computes in a way that is not supported: they must be absent, null, false or empty. */
const REFUSED: readonly string[] = [
  "alora_invocation_tokens",
  "arrow_config",
  "kasa_config",
  "layer_replication",
  "megatron_config",
  "monteclora_config",
  "target_parameters",
  "trainable_token_indices",
  "use_bdlora",
  "use_qalora",
  "velora_config",
];

/** Fields that are honoured, or that change nothing once an adapter is trained. */
const KNOWN: readonly string[] = [
  ...REFUSED,
  "alpha_pattern",
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
  "lora_bias",
  "lora_dropout",
  "lora_ga_config",
  "megatron_core",
  "modules_to_save",
  "peft_type",
  "peft_version",
  "qalora_group_size",
  "r",
  "rank_pattern",
  "revision",
  "runtime_config",
  "target_modules",
  "task_type",
  "use_dora",
  "use_rslora",
];

/** Start values that leave the base model as it is, and those that subtract the principal part of each weight from it. */
const STARTS = /^(true|false|gaussian|orthogonal|eva|mica|pissa(_niter_\d{1,3})?)$/;

/** Modules that PEFT saves whole for tasks of classes. */
const CLASS_HEADS: readonly string[] = ["classifier", "score"];

/**
 * Reads the configuration of a LoRA adapter.
 *
 * @param json Content of `adapter_config.json`
 * @param file Its path, for errors
 * @returns What the adapter is
 * @throws {InputError} When a value does not fit, or a field changes what the adapter computes in a way that is not supported
 */
export function readAdapterConfig(json: Readonly<Record<string, unknown>>, file: string): AdapterConfig {
  const config = configReader(json, file);
  config.only("peft_type", "LORA");
  for (const key of REFUSED) {
    if (!isNeutral(json[key])) throw config.error(key, "adapters of that kind are not supported", json[key]);
  }
  const start = json.init_lora_weights ?? true;
  if (!STARTS.test(String(start)) || typeof start !== "boolean" && typeof start !== "string") {
    const rule =
      "it changes the base model: convert the adapter with path_initial_model_for_weight_conversion of PEFT";
    throw config.error("init_lora_weights", rule, start);
  }
  const bias = config.string("bias", "none");
  if (bias !== "none" && bias !== "all" && bias !== "lora_only") {
    throw config.error("bias", "it must be none, all or lora_only", bias);
  }
  const dropout = json.lora_dropout ?? 0;
  if (typeof dropout !== "number" || !(dropout >= 0 && dropout < 1)) {
    throw config.error("lora_dropout", "it must be a number from 0, below 1", dropout);
  }
  const targets = namesOf(config, { key: "target_modules", seen: json.target_modules });
  const layers = readLayers(config, json.layers_to_transform ?? null);
  if (layers !== null && typeof targets === "string") {
    throw config.error(
      "layers_to_transform",
      '"target_modules" must then be a list',
      json.layers_to_transform,
    );
  }
  const ofClasses = json.task_type === "SEQ_CLS" || json.task_type === "TOKEN_CLS";
  return {
    rank: config.count("r"),
    alpha: config.number("lora_alpha"),
    rankPattern: readPattern(config, { key: "rank_pattern", rule: "ranks must be whole numbers above 0" }),
    alphaPattern: readPattern(config, { key: "alpha_pattern", rule: "alphas must be positive numbers" }),
    stable: config.boolean("use_rslora", false),
    dora: config.boolean("use_dora", false),
    bias: config.boolean("lora_bias", false),
    dropout,
    targets,
    excluded: namesOf(config, { key: "exclude_modules", seen: json.exclude_modules }) ?? [],
    layers,
    layersPattern: [namesOf(config, { key: "layers_pattern", seen: json.layers_pattern }) ?? []].flat(),
    trainedBiases: bias,
    saved: [...config.strings("modules_to_save") ?? [], ...ofClasses ? CLASS_HEADS : []],
    start,
  };
}

/**
 * Fields of a configuration that no version of PEFT that is known writes.
 *
 * @param json Content of `adapter_config.json`
 * @returns Their names
 */
export function unknownFields(json: Readonly<Record<string, unknown>>): string[] {
  return Object.keys(json).filter((key) => !KNOWN.includes(key) && !isNeutral(json[key]));
}

/**
 * The rank of the pair of a module.
 *
 * @param config The configuration
 * @param names Names of the module
 * @returns That of the first pattern that matches; else that of all
 */
export function rankOf({ rank, rankPattern }: AdapterConfig, names: readonly string[]): number {
  return rankPattern.find(({ holds }) => names.some(holds))?.value ?? rank;
}

/**
 * The factor of the pair of a module.
 *
 * @param config The configuration
 * @param names Names of the module
 * @returns alpha / r, or alpha / sqrt(r)
 */
export function scaleOf(config: AdapterConfig, names: readonly string[]): number {
  const rank = rankOf(config, names);
  const alpha = config.alphaPattern.find(({ holds }) => names.some(holds))?.value ?? config.alpha;
  return alpha / (config.stable ? Math.sqrt(rank) : rank);
}

function readPattern(
  config: ConfigReader,
  { key, rule }: { readonly key: "rank_pattern" | "alpha_pattern"; readonly rule: string },
): Pattern[] {
  return Object.entries(config.record(key) ?? {}).map(([pattern, value]) => {
    const holds = typeof value === "number" && value > 0 && Math.fround(value) < Infinity;
    if (!holds || key === "rank_pattern" && !Number.isSafeInteger(value)) {
      throw config.error(key, rule, { [pattern]: value });
    }
    return { holds: expression(`(?:.*\\.)?(?:${pattern})`), value: value as number };
  });
}

function readLayers(config: ConfigReader, seen: unknown): readonly number[] | null {
  const layers = [seen].flat();
  if (seen === null || layers.length === 0) return null;
  if (layers.every((layer) => Number.isSafeInteger(layer) && layer as number >= 0)) return layers as number[];
  throw config.error("layers_to_transform", "it must be indices of layers", seen);
}

function namesOf(
  config: ConfigReader,
  { key, seen }: { readonly key: string; readonly seen: unknown },
): string | readonly string[] | null {
  if (typeof (seen ?? "") === "string") return seen as string ?? null;
  return config.strings(key);
}

function isNeutral(value: unknown): boolean {
  return (value ?? false) === false || isRecord(value) && Object.keys(value).length === 0 ||
    Array.isArray(value) && value.length === 0;
}
