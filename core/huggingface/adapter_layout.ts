/**
 * The tensors of adapters: which there are, their shapes, and how they are used.
 *
 * @module
 */

import type { AdapterSettings } from "../models/adapter.ts";
import type { Model } from "../models/model.ts";
import type { LoraSettings } from "../nn/lora.ts";
import { InputError } from "../errors.ts";
import type { Leaves, Path } from "../tree.ts";
import { type AdapterConfig, rankOf, scaleOf } from "./adapter_config.ts";
import { biasPaths, copiedPaths, type Module, modulesOf } from "./adapter_modules.ts";
import { isPissa } from "./pissa.ts";

/** What PEFT puts before the names of tensors. */
export const PREFIX = "base_model.model.";

/** Which dropout an adapter draws. */
export interface AdapterSeed {
  /** Seed of its dropout, a whole number of 32 bits; 0 when absent. */
  readonly seed?: number;
}

/** A module with a pair. */
export interface PairOf {
  /** The module. */
  readonly module: Module;
  /** The configuration of the adapter. */
  readonly config: AdapterConfig;
}

/**
 * The tensors that an adapter adds to a module, by what their path adds to that of the module.
 *
 * @param pair The module and the configuration
 * @returns Their shapes; none for a module that takes no pair
 */
export function memberShapes({ module, config }: PairOf): Map<string, readonly number[]> {
  const [out, width] = module.shape, rank = rankOf(config, module.names);
  if (module.kind === "other") return new Map();
  const isTable = module.kind === "table",
    members = new Map<string, readonly number[]>([
      [isTable ? "lora_embedding_A" : "lora_A.weight", [rank, width]],
      [isTable ? "lora_embedding_B" : "lora_B.weight", [out, rank]],
    ]);
  if (config.bias && !isTable) members.set("lora_B.bias", [out]);
  if (config.dora) members.set("lora_magnitude_vector", [out]);
  return members;
}

/**
 * How the tensors of an adapter are used.
 *
 * @param model The base
 * @param options The configuration, its content, the modules with pairs, and the seed of dropout
 * @returns The settings, without a file
 * @throws {InputError} When the pairs of a table and of a head would have to be one, or PiSSA would take a part out of a tied head
 */
export function settingsFor<I extends object>(
  model: Model<object, I>,
  { config, source, pairs, seed = 0 }: AdapterSeed & {
    readonly config: AdapterConfig;
    readonly source: Readonly<Record<string, unknown>>;
    readonly pairs: ReadonlyMap<Path, PairOf>;
  },
): AdapterSettings {
  const modules = [...modulesOf(model).values()], tied = modules.find(({ tied }) => tied);
  if (source.ensure_weight_tying === true && tied !== undefined && hasTable(pairs)) {
    throw new InputError(
      `Cannot adapt a table that "${tied.name}" is tied to with "ensure_weight_tying" as both must have pairs of their own: ` +
        "it is true",
    );
  }
  if (tied !== undefined && isPissa(config.start) && pairs.has(tied.path)) {
    throw new InputError(
      `Cannot adapt "${tied.name}" with PiSSA as its weight must be its own: it is that of a table, which would lose the same part`,
    );
  }
  const layers = modules.flatMap(({ path, kind }, stream): [Path, LoraSettings][] => {
    if (!pairs.has(path)) return [];
    const drops = config.dropout > 0 && kind === "linear";
    const dropout = drops ? { rate: config.dropout, seed, stream } : undefined;
    return [[path, { scale: scaleOf(config, pairs.get(path)!.module.names), ...dropout && { dropout } }]];
  });
  // MiCA trains the first matrix alone.
  const isTrained = (member: string): boolean => config.start !== "mica" || !/_B(\.|$)/.test(member);
  const own = [...pairs].flatMap(([path, pair]) =>
    [...memberShapes(pair).keys()].filter(isTrained).map((member) => `${path}.${member}`)
  );
  return {
    source,
    layers: new Map(layers),
    trained: new Set([...own, ...copiedPaths(model, config), ...biasPaths(model, config)]),
    stored: new Map(),
  };
}

function hasTable(pairs: ReadonlyMap<Path, PairOf>): boolean {
  return [...pairs.values()].some(({ module }) => module.kind === "table");
}

/**
 * A part of a pair that a model holds.
 *
 * @param leaves Its parameters
 * @returns A path; undefined where there is none
 */
export function heldPair(leaves: Leaves): Path | undefined {
  return [...leaves.keys()].find((path) => path.includes(".lora_"));
}
