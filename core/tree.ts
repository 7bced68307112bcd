/**
 * Trees of named tensors, and the dotted paths of their leaves.
 *
 * @module
 */

import { InputError } from "./errors.ts";
import type { Path, Tensor } from "./tensor.ts";

export type { Path } from "./tensor.ts";

/** A tensor, or a record of trees. */
export type Tree = Tensor | { readonly [key: string]: Tree };

/** A record of tensors: a type of one's own, such as the parameters of a model. */
export type TensorTree = object;

/** The leaves of a tree by path. */
export type Leaves<T = Tensor> = ReadonlyMap<Path, T>;

/**
 * Lists the leaves of a tree by dotted path, in key order of the records.
 *
 * @param tree The tree
 * @param prefix Prepended to every path, joined by a dot
 * @returns Path to tensor
 * @throws {InputError} When the tree holds something that is neither a tensor nor a record, or two tensors have one path
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
  const walk = (node: unknown, path: Path): void => {
    if (isTensor(node)) {
      if (leaves.has(path)) throw new InputError(`Cannot flatten "${path}" as two tensors have that path`);
      leaves.set(path, node);
      return;
    }
    for (const [key, child] of Object.entries(recordOf(node, { path, action: "flatten" }))) {
      if (child !== undefined) walk(child, join(path, key));
    }
  };
  walk(tree, prefix);
  return leaves;
}

/** Checks that a branch of a tree is a record. */
function recordOf(node: unknown, { path, action }: { readonly path: Path; readonly action: string }): object {
  if (typeof node !== "object" || node === null) {
    throw new InputError(`Cannot ${action} "${path}" as a tree holds tensors and records: got ${node}`);
  }
  return node;
}

function join(path: Path, key: string): Path {
  return path === "" ? key : `${path}.${key}`;
}

/** The type of a tree with `R` in place of each tensor. */
export type Mapped<T, R> = T extends Tensor ? R
  : T extends object ? { readonly [K in keyof T]: Mapped<T[K], R> }
  : T;

/**
 * Maps every tensor of a tree; the records keep their keys and their types.
 *
 * @param tree The tree
 * @param replace Called with each tensor and its dotted path, in key order of the records
 * @returns A tree of the same keys
 * @throws {InputError} When the tree holds something that is neither a tensor nor a record
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { mapTree, multiply, tensor } from "@firn/train";
 *
 * const params = { layer: { weight: tensor([1, 2]), bias: tensor([3]) } };
 * const halved = mapTree(params, (x) => multiply(x, 0.5)); // of the same type as params
 * assertEquals(halved.layer.weight.shape, [2]);
 * assertEquals(mapTree(params, ({ shape }, path) => `${path} [${shape}]`), {
 *   layer: { weight: "layer.weight [2]", bias: "layer.bias [1]" },
 * });
 * ```
 */
export function mapTree<T extends Tree | object, R>(
  tree: T,
  replace: (tensor: Tensor, path: Path) => R,
): Mapped<T, R> {
  const walk = (node: unknown, path: Path): unknown => {
    if (isTensor(node)) return replace(node, path);
    return Object.fromEntries(
      Object.entries(recordOf(node, { path, action: "map" })).map(([key, child]) => [
        key,
        child === undefined ? undefined : walk(child, join(path, key)),
      ]),
    );
  };
  return walk(tree, "") as Mapped<T, R>;
}

/**
 * Builds a tree from its leaves: the inverse of {@link flatten}.
 *
 * @param leaves Path to tensor
 * @returns Nested records; numbered layers become records with numeric keys
 * @throws {InputError} When one path is the prefix of another
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor, unflatten } from "@firn/train";
 *
 * const weight = tensor([1]);
 * assertEquals(unflatten(new Map([["layer.weight", weight]])), { layer: { weight } });
 * ```
 */
export function unflatten(leaves: Leaves): Tree {
  if (leaves.size === 1 && leaves.has("")) return leaves.get("")!;
  // Maps, not records, as a path may name a property that every object inherits.
  const root: Branch = new Map();
  for (const [path, value] of leaves) {
    const keys = path.split(".");
    const last = keys.pop()!;
    let branch = root;
    for (const key of keys) {
      const child = branch.get(key) ?? new Map();
      if (!(child instanceof Map)) {
        throw new InputError(`Cannot place "${path}" as a shorter path is a tensor: "${key}"`);
      }
      branch.set(key, child);
      branch = child;
    }
    if (branch.has(last)) throw new InputError(`Cannot place "${path}" as it holds other tensors already`);
    branch.set(last, value);
  }
  return toRecord(root);
}

type Branch = Map<string, Tensor | Branch>;

function toRecord(branch: Branch): Tree {
  return Object.fromEntries(
    [...branch].map(([key, child]) => [key, child instanceof Map ? toRecord(child) : child]),
  );
}

/**
 * Tells a tensor from a record of tensors.
 *
 * @param value Anything
 * @returns True for a tensor
 */
export function isTensor(value: unknown): value is Tensor {
  return typeof value === "object" && value !== null && "op" in value && "inputs" in value;
}
