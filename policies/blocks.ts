import type { Component } from "../core/policy.ts";

/** Paths of a model's components from the bottom, where the input enters, to the top. */
export type Blocks = {
  /** Components below the layers, such as an embedding. */
  readonly below: readonly string[];
  /** One list per layer, the lowest first; one list per component when none belongs to a layer. */
  readonly layers: readonly (readonly string[])[];
  /** Components above the layers, such as a last norm and a head. */
  readonly above: readonly string[];
};

/**
 * Sorts components into blocks, bottom up.
 *
 * Of the components outside the layers, embeddings and those before the first layer lie below, the others above:
 * components come in the order of the model's parameters, which is that of its forward pass. Stacks whose layers share
 * numbers count as one stack. An embedding that is also the head is one component and lies below.
 *
 * @param components All components, in the model's order
 * @returns The blocks, JSON
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { blocksOf } from "@firn/train/policies";
 *
 * const part = (path: string, layer: number | null) =>
 *   ({ path, layer, parameters: [], kind: "linear", size: 4 }) as const;
 * const components = [part("in", null), part("0.a", 0), part("0.b", 0), part("1.a", 1), part("head", null)];
 * assertEquals(blocksOf(components), { below: ["in"], layers: [["0.a", "0.b"], ["1.a"]], above: ["head"] });
 * assertEquals(blocksOf([part("a", null), part("b", null)]), { below: [], layers: [["a"], ["b"]], above: [] });
 * ```
 */
export function blocksOf(components: readonly Component[]): Blocks {
  const first = components.findIndex(({ layer }) => layer !== null);
  if (first < 0) return { below: [], layers: components.map(({ path }) => [path]), above: [] };
  const paths = (where: (component: Component, i: number) => boolean): string[] =>
    components.filter(where).map(({ path }) => path);
  const below = paths(({ layer, kind }, i) => layer === null && (kind === "embedding" || i < first));
  const numbers = [...new Set(components.flatMap(({ layer }) => layer ?? []))].sort((a, b) => a - b);
  return {
    below,
    layers: numbers.map((n) => paths(({ layer }) => layer === n)),
    above: paths(({ layer, path }) => layer === null && !below.includes(path)),
  };
}
