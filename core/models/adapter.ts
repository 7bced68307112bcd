/**
 * Adapters as data: tensors beside those of a base model, and what they mean.
 *
 * @module
 */

import { type LoraSettings, withLoraSettings } from "../nn/lora.ts";
import type { Tensor } from "../tensor.ts";
import { flatten, isTensor, type Leaves, type Path, unflatten } from "../tree.ts";

/** Where a tensor of an adapter's file stands in the tree, and how the file stores it. */
export interface StoredTensor {
  /** Its path. */
  readonly path: Path;
  /** Its type in the file. */
  readonly dtype: "F32" | "BF16" | "F16";
  /** Whether it is that of the base, in whose place the adapter has another. */
  readonly ofBase?: true;
}

/** What an adapter means, its tensors aside. */
export interface AdapterSettings {
  /** Content of its `adapter_config.json`, written back when it is saved. */
  readonly source: Readonly<Record<string, unknown>>;
  /** How the pair of each module is used, by its path. */
  readonly layers: ReadonlyMap<Path, LoraSettings>;
  /** Which of its tensors are trained. */
  readonly trained: ReadonlySet<Path>;
  /** The tensors of its file by name; empty where it has no file yet. */
  readonly stored: ReadonlyMap<string, StoredTensor>;
  /** The text that `source` was read from. */
  readonly text?: string;
}

/** An adapter: pairs, and other tensors that stand in place of those of the base. */
export interface Adapter extends AdapterSettings {
  /** Its tensors by their path in the tree of a model. */
  readonly tensors: Leaves;
}

/** The adapter that a model has. */
export interface ModelAdapter extends AdapterSettings {
  /** Paths of its tensors. */
  readonly paths: ReadonlySet<Path>;
  /** Tensors of the base that are not in the tree, as those of the adapter stand in their place. */
  readonly replaced: Leaves;
}

/** A model with an adapter, as far as its parameters depend on it. */
export interface AdaptedModel {
  /** Its parameters. */
  readonly params: object;
  /** Its adapter. */
  readonly adapter: ModelAdapter;
  /** Whether dropout is on. */
  readonly training: boolean;
  /** Tied parameters, and those that take their place. */
  readonly tied: ReadonlyMap<Path, Path>;
}

/**
 * The parameters of a model as its family reads them: each adapted layer with the settings of its pair, and a head that is
 * tied to a table without what the adapter adds to the table.
 *
 * @param model The model
 * @returns Its parameters
 */
export function adaptedParams({ params, adapter, training, tied }: AdaptedModel): object {
  const leaves = flatten(params), heads = new Map<Path, Tensor>();
  for (const [path, source] of tied) {
    if (leaves.has(path) || !leaves.has(source)) continue;
    const [head, table] = [path, source].map((name) => name.replace(/\.weight$/, ""));
    if (adapter.layers.has(head) || adapter.layers.has(table)) heads.set(path, leaves.get(source)!);
  }
  const walk = (node: object, path: Path): object => {
    const members = Object.entries(node).map(([key, child]) => {
      const plain = child === undefined || isTensor(child);
      return [key, plain ? child : walk(child, path === "" ? key : `${path}.${key}`)];
    });
    const found = adapter.layers.get(path), record = Object.fromEntries(members);
    if (found === undefined) return record;
    return withLoraSettings(record, training ? found : { scale: found.scale });
  };
  return walk(heads.size === 0 ? params : unflatten(new Map([...leaves, ...heads])), "");
}
