/**
 * Trees of named tensors and the dotted paths of their leaves.
 *
 * @module
 */

import type { Tensor } from "./tensor.ts";

/** The dotted name of a leaf: checkpoint key, component name, error text, buffer label. */
export type Path = string;

/** A tensor, or a record of trees. */
export type Tree = Tensor | { readonly [key: string]: Tree };

/** Flat view of a tree. */
export type Leaves<T = Tensor> = ReadonlyMap<Path, T>;

/**
 * Lists the leaves of a tree by dotted path, in key order of the records.
 *
 * @param tree The tree
 * @param prefix Put before every path, joined by a dot
 * @returns Path to tensor
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { flatten, tensor } from "@firn/train";
 *
 * const leaves = flatten({ layer: { weight: tensor([1]), bias: tensor([2]) } });
 * assertEquals([...leaves.keys()], ["layer.weight", "layer.bias"]);
 * ```
 */
export function flatten(tree: Tree | object, prefix = ""): Map<Path, Tensor> {
  const leaves = new Map<Path, Tensor>();
  const walk = (node: Tree, path: Path): void => {
    if (isTensor(node)) {
      leaves.set(path, node);
      return;
    }
    for (const [key, child] of Object.entries(node)) {
      if (child !== undefined) walk(child, path === "" ? key : `${path}.${key}`);
    }
  };
  walk(tree as Tree, prefix);
  return leaves;
}

/**
 * Builds the tree whose leaves have the given paths: the inverse of {@link flatten}.
 *
 * @param leaves Path to tensor
 * @returns Nested records; numbered layers become records with numeric keys
 * @throws {TypeError} When one path is the prefix of another
 */
export function unflatten(leaves: Leaves): Tree {
  if (leaves.size === 1 && leaves.has("")) return leaves.get("")!;
  const root: Record<string, unknown> = {};
  for (const [path, value] of leaves) {
    const keys = path.split(".");
    let node = root;
    for (const key of keys.slice(0, -1)) {
      node = (node[key] ??= {}) as Record<string, unknown>;
      if (isTensor(node)) throw new TypeError(`Cannot place "${path}" as a shorter path is a tensor: "${key}"`);
    }
    const last = keys[keys.length - 1];
    if (node[last] !== undefined) throw new TypeError(`Cannot place "${path}" as it holds other tensors already`);
    node[last] = value;
  }
  return root as Tree;
}

/** Whether a tree is a single tensor. */
export function isTensor(value: unknown): value is Tensor {
  return typeof value === "object" && value !== null && "op" in value && "inputs" in value;
}
