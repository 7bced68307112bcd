/**
 * Parameter declarations. A tree holds the shape, initial value and checkpoint name of each parameter; the type of the
 * tree of tensors is derived from it with {@link ParamsOf}.
 *
 * A family declares its tree in an arrow function that returns an object literal. Each entry is cast to the type that its
 * builder returns, because JSR infers types from such literals but not from calls.
 *
 * @module
 */

import type { Tensor } from "../tensor.ts";
import type { Path } from "../tree.ts";

/** What a new parameter holds: one constant, or draws with mean 0 and the model's `initializer_range` as deviation. */
export type Init = "normal" | "ones" | "zeros";

/** Which axis of a matrix comes first: that of the output, or that of the input. */
export type Layout = "outIn" | "inOut";

/** The declaration of one parameter. */
export interface ParamSpec {
  /** Sizes, outermost first. */
  readonly shape: readonly number[];
  /** What it holds before training. */
  readonly init: Init;
  /** Which axis of a matrix comes first; [out, in] when absent. */
  readonly layout?: Layout;
  /** What a matrix is for where it is none of a linear layer: a table of rows, or the router of a mixture. */
  readonly use?: "table" | "router";
  /**
   * Names of the tensors that checkpoints may have in its place, from its parent: its rows in order, as many in each.
   */
  readonly parts?: readonly string[];
  /** The parameter that takes its place. The model has only that one; a checkpoint may hold both. */
  readonly tiedTo?: Path;
  /** A checkpoint may lack it, as nothing reads it; the model has it where the checkpoint does, to give it back. */
  readonly spare?: true;
}

/** Repeated layers by index. */
export interface Layers<S> {
  /** Layer 0, 1, 2... */
  readonly [index: string]: S;
}

/** The tree of tensors that a declaration, or a function that returns one, describes. */
export type ParamsOf<S> = S extends undefined ? undefined
  : S extends ParamSpec ? Tensor
  : S extends (...config: never[]) => infer R ? ParamsOf<R>
  : { readonly [K in keyof S]: ParamsOf<S[K]> };

/** Holds the name that replaces a name of the tree in checkpoint keys. */
const KEY = Symbol("checkpoint key");

/**
 * A parameter that starts with random values.
 *
 * @param shape Sizes, outermost first
 * @returns Its declaration
 */
export function normal(shape: readonly number[]): ParamSpec {
  return { shape, init: "normal" };
}

/**
 * A parameter that starts with ones, such as the gain of a norm.
 *
 * @param shape Sizes, outermost first
 * @returns Its declaration
 */
export function ones(shape: readonly number[]): ParamSpec {
  return { shape, init: "ones" };
}

/**
 * A parameter that starts with zeros, such as a bias.
 *
 * @param shape Sizes, outermost first
 * @returns Its declaration
 */
export function zeros(shape: readonly number[]): ParamSpec {
  return { shape, init: "zeros" };
}

/**
 * A part of the tree that only some configurations have.
 *
 * @param present Whether this one has it
 * @param spec The declaration
 * @returns The declaration, or undefined
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { listParams, optional, zeros } from "@firn/train/nn";
 *
 * assertEquals(listParams({ bias: optional(false, zeros([4])) }).size, 0);
 * ```
 */
export function optional<S>(present: boolean, spec: S): S | undefined {
  return present ? spec : undefined;
}

/**
 * Layers of one kind.
 *
 * @param count How many
 * @param spec The declaration of each
 * @returns Declarations by index
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { listParams, ones, repeat } from "@firn/train/nn";
 *
 * const spec = { layers: repeat(2, { gain: ones([4]) }) };
 * assertEquals([...listParams(spec).keys()], ["layers.0.gain", "layers.1.gain"]);
 * ```
 */
export function repeat<S>(count: number, spec: S): Layers<S> {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [i, spec]));
}

/**
 * Renames a part of the tree in checkpoints.
 *
 * @param key Its name in checkpoints, which may have dots; `""` drops the name, so that its members move up
 * @param spec The declaration
 * @returns The same declaration under another checkpoint name
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { listParams, normal, stored } from "@firn/train/nn";
 *
 * const spec = { attention: { q: stored("self.query", { weight: normal([2, 2]) }) } };
 * assertEquals(listParams(spec).get("attention.q.weight")!.key, "attention.self.query.weight");
 * ```
 */
export function stored<S extends object>(key: string, spec: S): S {
  return { ...spec, [KEY]: key };
}

/**
 * Renames members of a part of the tree in checkpoints, as {@link stored} does with each.
 *
 * @param keys The name in checkpoints of each member that has another there
 * @param spec The declaration
 * @returns The same declaration under other checkpoint names
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { listParams, normal, storedAs } from "@firn/train/nn";
 *
 * const spec = { mlp: storedAs({ up: "fc1" }, { up: { weight: normal([8, 4]) }, down: { weight: normal([4, 8]) } }) };
 * assertEquals([...listParams(spec).values()].map(({ key }) => key), ["mlp.fc1.weight", "mlp.down.weight"]);
 * ```
 */
export function storedAs<S extends object>(keys: { readonly [K in keyof S]?: string }, spec: S): S {
  const rename = ([name, child]: [string, unknown]): [string, unknown] => {
    const key = (keys as Record<string, string | undefined>)[name];
    return [name, key === undefined || child === undefined ? child : stored(key, child as object)];
  };
  return { ...spec, ...Object.fromEntries(Object.entries(spec).map(rename)) };
}

/**
 * Declares parameters that nothing reads: a checkpoint may have them, and a model gives them back.
 *
 * @param spec The declaration
 * @returns The same declaration; its type allows the parameters to be absent
 */
export function spare<S extends object>(spec: S): S | undefined {
  if (isParamSpec(spec)) return { ...spec, spare: true };
  const members = Object.entries(spec).map((
    [name, child],
  ) => [name, child === undefined ? child : spare(child)]);
  return { ...spec, ...Object.fromEntries(members) };
}

/**
 * Ties parameters to others. The model has only the others; a checkpoint may hold both.
 *
 * @param path Path of the others in the tree
 * @param spec The tied declaration; its parameters have the same names as the others
 * @returns The declaration; its type allows the parameters to be absent
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { listParams, normal, tiedTo } from "@firn/train/nn";
 *
 * const table = { weight: normal([8, 4]) };
 * const declared = listParams({ table, head: tiedTo("table", table) });
 * assertEquals(declared.get("head.weight")!.tiedTo, "table.weight");
 * ```
 */
export function tiedTo<S extends object>(path: Path, spec: S): S | undefined {
  return Object.fromEntries(
    Object.entries(spec).map(([name, child]: [string, object | undefined]) => {
      if (child === undefined) return [name, child];
      const at = `${path}.${name}`;
      return [name, isParamSpec(child) ? { ...child, tiedTo: at } : tiedTo(at, child)];
    }),
  ) as S;
}

/** A declared parameter with its checkpoint key. */
export interface ListedParam extends ParamSpec {
  /** Its name in checkpoints. */
  readonly key: string;
  /** Whole names of the tensors that checkpoints may have in its place. */
  readonly parts?: readonly string[];
}

/**
 * Lists the parameters of a declaration by path, in its order.
 *
 * @param spec The declaration
 * @returns Path to declared parameter, tied ones included
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { listParams, normal, zeros } from "@firn/train/nn";
 *
 * const declared = listParams({ up: { weight: normal([8, 4]), bias: zeros([8]) } });
 * assertEquals([...declared].map(([path, { shape, init }]) => [path, shape, init]), [
 *   ["up.weight", [8, 4], "normal"],
 *   ["up.bias", [8], "zeros"],
 * ]);
 * ```
 */
export function listParams(spec: object): Map<Path, ListedParam> {
  const found = new Map<Path, ListedParam>();
  const join = (...names: readonly string[]): string => names.filter((name) => name !== "").join(".");
  const walk = (node: object, { path, key }: { readonly path: Path; readonly key: string }): void => {
    if (isParamSpec(node)) {
      const parent = key.split(".").slice(0, -1).join(".");
      const parts = node.parts?.map((part) => join(parent, part));
      found.set(path, { ...node, key, ...parts !== undefined && { parts } });
      return;
    }
    for (const [name, child] of Object.entries(node) as [string, Renamed | undefined][]) {
      if (child !== undefined) walk(child, { path: join(path, name), key: join(key, child[KEY] ?? name) });
    }
  };
  walk(spec, { path: "", key: "" });
  return found;
}

type Renamed = object & { readonly [KEY]?: string };

function isParamSpec(node: object): node is ParamSpec {
  return "shape" in node && Array.isArray(node.shape);
}
