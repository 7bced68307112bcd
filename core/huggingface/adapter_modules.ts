/**
 * The modules of a model, and which of them an adapter changes.
 *
 * @module
 */

import type { Layout } from "../nn/params.ts";
import { commonName, declaredParams, headOf, type Model } from "../models/model.ts";
import type { Family } from "../models/family.ts";
import type { Path } from "../tree.ts";
import type { AdapterConfig } from "./adapter_config.ts";
import { expression } from "./expression.ts";

/** A module with a weight. */
export interface Module {
  /** Its name in checkpoints, without `weight`. */
  readonly name: string;
  /** All names that it has, that one first. */
  readonly names: readonly string[];
  /** Its path in the tree. */
  readonly path: Path;
  /** What it does with its weight; `other` for norms and convolutions, which have no pairs. */
  readonly kind: "linear" | "table" | "other";
  /** Whether it is a linear layer to `transformers`, too. */
  readonly isLayer: boolean;
  /** Channels out and in; of a table, channels and rows. */
  readonly shape: readonly [out: number, width: number];
  /** Layout of its weight; a table is [in, out]. */
  readonly layout: Layout;
  /** Whether it has a bias. */
  readonly biased: boolean;
  /** Whether its weight is that of another module. */
  readonly tied: boolean;
}

const WEIGHT = ".weight";

type Described<I extends object> = Pick<Model<object, I>, "family" | "architecture" | "config">;

/**
 * Lists the modules of a model.
 *
 * @param model The model
 * @returns Its modules by name, in the order of the declaration
 */
export function modulesOf<I extends object>(model: Described<I>): Map<string, Module> {
  const declared = declaredParams(model);
  return new Map(
    [...declared].flatMap(([path, { key, shape, layout = "outIn", use, tiedTo }]): [string, Module][] => {
      if (!path.endsWith(WEIGHT) || !key.endsWith(WEIGHT)) return [];
      const at = path.slice(0, -WEIGHT.length), name = key.slice(0, -WEIGHT.length);
      const turned = use === "table" || layout === "inOut";
      return [[name, {
        name,
        names: namesOf(model.family, name),
        path: at,
        kind: shape.length !== 2 ? "other" : use === "table" ? "table" : "linear",
        isLayer: use === undefined,
        shape: (turned ? shape.toReversed() : shape) as unknown as readonly [number, number],
        layout: turned ? "inOut" : "outIn",
        biased: declared.has(`${at}.bias`),
        tied: tiedTo !== undefined,
      }]];
    }),
  );
}

/**
 * All names of a module.
 *
 * @param family Its family
 * @param name Its name in checkpoints
 * @returns That name, and the one that it has in `transformers` where that is another, as in its PEFT adapters
 */
export function namesOf({ moduleNames = [] }: Pick<Family, "moduleNames">, name: string): readonly string[] {
  const other = moduleNames.reduce(
    (text, [pattern, replacement]) => text.replace(pattern, replacement),
    name,
  );
  return other === name ? [name] : [name, other];
}

/** What PEFT adapts where a configuration names no targets, by `model_type`. */
const DEFAULT_TARGETS: Readonly<Record<string, readonly string[]>> = {
  gpt2: ["c_attn"],
  gpt_neox: ["query_key_value"],
  ...Object.fromEntries(["bert", "roberta"].map((name) => [name, ["query", "value"]])),
  ...Object.fromEntries(
    ["llama", "mistral", "mixtral", "gemma", "gemma2", "gemma3_text", "qwen2", "qwen3"].map((
      name,
    ) => [name, ["q_proj", "v_proj"]]),
  ),
};

/** The word for all linear layers but the head. */
export const ALL_LINEAR = "all-linear";

/**
 * Tells which modules a configuration adapts, as PEFT does.
 *
 * @param model The model
 * @param config The configuration
 * @returns From the name of a module to whether it is adapted
 */
export function targeting<I extends object>(
  model: Described<I> & Pick<Model<object, I>, "params">,
  config: AdapterConfig,
): (module: Module) => boolean {
  const { excluded, saved, layers, layersPattern } = config;
  const targets = config.targets ?? DEFAULT_TARGETS[model.family.name] ?? ALL_LINEAR;
  const isExcluded = matcher(excluded), isTarget = matcher(targets);
  const holders = layersPattern.map((pattern) => expression(`(?:.*\\.)?(?:${pattern})`));
  const isLinear = allLinear(model);
  return (module) => {
    const { names } = module;
    if (names.some((name) => isExcluded(name) || isCopied(name, saved))) return false;
    if (typeof targets === "string" && targets.toLowerCase() === ALL_LINEAR) {
      return isLinear(module);
    }
    return names.some((name) => {
      if (!isTarget(name)) return false;
      if (layers === null || typeof targets === "string" || targets.includes(name)) return true;
      const layer = layerOf(name, holders);
      return layer !== null && layers.includes(layer);
    });
  };
}

/**
 * Tells which modules `all-linear` means: all linear layers but the head.
 *
 * @param model The model
 * @returns From a module to whether it is one
 */
export function allLinear<I extends object>(
  model: Described<I> & Pick<Model<object, I>, "params">,
): (module: Module) => boolean {
  const head = headOf(model).output?.(model.params).weight;
  return ({ kind, isLayer, tied, path }) =>
    kind === "linear" && isLayer && !tied && (head === undefined || weightAt(model.params, path) !== head);
}

/** The weight of a module in a tree. */
function weightAt(tree: object, path: Path): unknown {
  return `${path}.weight`.split(".").reduce<unknown>(
    (node, key) => (node as Record<string, unknown> | undefined)?.[key],
    tree,
  );
}

/** Names that are in a list, or end in a name of it after a dot; or those that an expression matches. */
function matcher(names: string | readonly string[]): (name: string) => boolean {
  if (typeof names === "string") {
    return names.toLowerCase() === ALL_LINEAR ? () => true : expression(names);
  }
  const all = new Set(names);
  return (name) => {
    const parts = name.split(".");
    return parts.some((_, i) => all.has(parts.slice(i).join(".")));
  };
}

/** The first number in a name that stands below the name of what holds layers; null where there is none. */
function layerOf(name: string, holders: readonly ((name: string) => boolean)[]): number | null {
  const parts = name.split(".");
  const found = parts.findIndex((part, i) => {
    if (!/^\d+$/.test(part) || i === parts.length - 1) return false;
    if (holders.length === 0) return i >= 2;
    return holders.some((holds) => holds(parts.slice(0, i).join(".")));
  });
  return found < 0 ? null : Number(parts[found]);
}

/**
 * The parameters of modules of which an adapter has a copy.
 *
 * @param model The model
 * @param config The configuration
 * @returns Their paths: all parameters of modules whose names end in a name of `modules_to_save`
 */
export function copiedPaths<I extends object>(model: Described<I>, { saved }: AdapterConfig): Path[] {
  return [...declaredParams(model)].flatMap(([path, { key }]) =>
    isCopied(key.slice(0, key.lastIndexOf(".")), saved) ? [path] : []
  );
}

/** Whether a module, or one that holds it, has a name that ends as a module does of which an adapter has a copy. */
function isCopied(module: string, saved: readonly string[]): boolean {
  const parts = module.split(".");
  return parts.some((_, i) => saved.some((end) => parts.slice(0, i + 1).join(".").endsWith(end)));
}

/**
 * Biases of the base that an adapter trains.
 *
 * @param model The model
 * @param config The configuration
 * @returns Their paths
 */
export function biasPaths<I extends object>(
  model: Described<I> & Pick<Model<object, I>, "params">,
  config: AdapterConfig,
): Path[] {
  if (config.trainedBiases === "none") return [];
  if (config.trainedBiases === "all") {
    return [...declaredParams(model)].flatMap(([path, { key, tiedTo }]) =>
      key.endsWith(".bias") && tiedTo === undefined ? [path] : []
    );
  }
  const isTarget = targeting(model, config);
  return [...modulesOf(model).values()].flatMap((module) =>
    module.biased && isTarget(module) ? [`${module.path}.bias`] : []
  );
}

/**
 * Finds what a checkpoint names, by any name that the family knows for it.
 *
 * @param model The model, whose family knows other names
 * @param named What is looked for, by its declared name
 * @returns From a name to what it names, or undefined
 */
export function byAnyName<T, I extends object>(
  model: Described<I>,
  named: ReadonlyMap<string, T>,
): (name: string) => T | undefined {
  const common = new Map([...named].map(([name, value]) => [commonName(model.family, name), value]));
  return (name) => named.get(name) ?? common.get(commonName(model.family, name));
}
