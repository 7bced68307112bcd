/**
 * Trees of named tensors, and the dotted paths of their leaves.
 *
 * @module
 */

import { shown } from "./arguments.ts";
import { InputError } from "./errors.ts";
import { isTensor, type Path, type Tensor } from "./tensor.ts";

export { isTensor, type Path } from "./tensor.ts";

/** A tensor, or a record of trees. */
export type Tree = Tensor | { readonly [key: string]: Tree };

/** A record of tensors: a type of one's own, such as the parameters of a model. Lists are not; a record has names. */
export type TensorTree = object & { readonly [Symbol.iterator]?: never };

/** The leaves of a tree by path. */
export type Leaves<T = Tensor> = ReadonlyMap<Path, T>;

/**
 * Lists the leaves of a tree by dotted path, in key order of the records.
 *
 * @param tree The tree
 * @param prefix Prepended to every path, joined by a dot
 * @returns Path to tensor
 * @throws {InputError} When the tree holds a list or anything else that is neither a tensor nor a record, or two tensors have
 * one path
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
export function flatten(tree: Tree | TensorTree, prefix = ""): Map<Path, Tensor> {
  const leaves = new Map<Path, Tensor>(), above: unknown[] = [];
  let count = 0;
  const walk = (node: unknown, path: Path): void => {
    if (isTensor(node)) {
      leaves.set(path, node);
      if (leaves.size > count++) return;
      throw new InputError(`Cannot flatten "${path}" as two tensors have that path`);
    }
    const record = recordOf(node, { path, action: "flatten", above }) as Readonly<Record<string, unknown>>;
    above.push(node);
    for (const key of Object.keys(record)) {
      const child = record[key];
      if (child !== undefined) walk(child, join(path, key));
    }
    above.pop();
  };
  walk(tree, prefix);
  return leaves;
}

/**
 * Makes a tree of the same records with other tensors.
 *
 * @param tree A tree that {@link flatten} takes
 * @param leaves The other tensors, in the order of {@link flatten}
 * @returns The other tree
 */
export function withLeaves(tree: Tree | TensorTree, leaves: Leaves): Tree {
  const rest = leaves.values();
  const walk = (node: unknown): Tree => {
    if (isTensor(node)) return rest.next().value!;
    const record = node as Readonly<Record<string, unknown>>, made: Record<string, Tree> = {};
    for (const key of Object.keys(record)) {
      const child = record[key];
      if (child === undefined) continue;
      // An assignment to this name would set what the record inherits from.
      if (key === "__proto__") Object.defineProperty(made, key, { ...PLAIN, value: walk(child) });
      else made[key] = walk(child);
    }
    return made;
  };
  return walk(tree);
}

/** A property as an assignment makes it. */
const PLAIN = { configurable: true, enumerable: true, writable: true } as const;

/** Checks that a branch of a tree is a record, and none of those above it. */
function recordOf(
  node: unknown,
  { path, action, above }: {
    readonly path: Path;
    readonly action: string;
    readonly above: readonly unknown[];
  },
): object {
  const refuse = (rule: string): never => {
    throw new InputError(`Cannot ${action} ${path === "" ? "a tree" : `"${path}"`} as ${rule}`);
  };
  if (Array.isArray(node)) {
    refuse(`a tree has no lists: got ${shown(node)}; name its tensors, as in { 0: first, 1: second }`);
  }
  const prototype = typeof node === "object" && node !== null ? Object.getPrototypeOf(node) : undefined;
  if (prototype !== null && prototype !== Object.prototype) {
    refuse(`a tree holds tensors and records: got ${shown(node)}`);
  }
  if (above.includes(node)) refuse("a record of the tree holds itself");
  return node as object;
}

function join(path: Path, key: string): Path {
  return path === "" ? key : `${path}.${key}`;
}

/** The type of a tree with `R` in place of each tensor; lists are not part of a tree. */
export type Mapped<T, R> = T extends Tensor ? R
  : T extends readonly unknown[] ? never
  : T extends object ? { readonly [K in keyof T]: Mapped<T[K], R> }
  : T;

/**
 * Maps every tensor of a tree; the records keep their keys and their types.
 *
 * @param tree The tree
 * @param replace Called with each tensor and its dotted path, in key order of the records
 * @returns A tree of the same keys
 * @throws {InputError} When the tree holds a list or anything else that is neither a tensor nor a record
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
export function mapTree<T extends Tree | TensorTree, R>(
  tree: T,
  replace: (tensor: Tensor, path: Path) => R,
): Mapped<T, R> {
  if (typeof replace !== "function") {
    throw new InputError(`Cannot map a tree as "replace" must be a function: got ${shown(replace)}`);
  }
  const walk = (node: unknown, path: Path, above: readonly unknown[]): unknown => {
    if (isTensor(node)) return replace(node, path);
    const record = recordOf(node, { path, action: "map", above }), inner = [...above, node];
    return Object.fromEntries(
      Object.entries(record).map(([key, child]) => [
        key,
        child === undefined ? undefined : walk(child, join(path, key), inner),
      ]),
    );
  };
  return walk(tree, "", []) as Mapped<T, R>;
}

/**
 * Builds a tree from its leaves: the inverse of {@link flatten}.
 *
 * @param leaves Path to tensor
 * @returns Nested records; numbered layers become records with numeric keys
 * @throws {InputError} When `leaves` is not a `Map` of tensors, or one path is the prefix of another
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
  if (!(leaves instanceof Map)) {
    throw new InputError(
      `Cannot unflatten as "leaves" must be a Map of paths to tensors: got ${shown(leaves)}`,
    );
  }
  if (leaves.size === 1 && leaves.has("")) return leaves.get("")!;
  // Maps, not records, as a path may name a property that every object inherits.
  const root: Branch = new Map();
  for (const [path, value] of leaves) {
    if (typeof path !== "string" || !isTensor(value)) {
      throw new InputError(
        `Cannot unflatten ${shown(path)} as a path leads to a tensor: got ${shown(value)}`,
      );
    }
    const keys = path.split(".");
    const last = keys.pop()!;
    let branch = root;
    for (const key of keys) {
      const child = branch.get(key) ?? new Map();
      if (!(child instanceof Map)) {
        throw new InputError(`Cannot unflatten "${path}" as a shorter path is a tensor: "${key}"`);
      }
      branch.set(key, child);
      branch = child;
    }
    if (branch.has(last)) {
      throw new InputError(`Cannot unflatten "${path}" as it holds other tensors already`);
    }
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
