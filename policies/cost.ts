import { InputError } from "../core/errors.ts";
import type { Component, ComponentCost } from "../core/policy.ts";

/** The cost of a component, with its path. */
export type Priced = { readonly path: string } & ComponentCost;

/**
 * Lists the costs of components.
 *
 * @param components All components
 * @returns Path and cost of each
 * @throws {InputError} When one has no cost
 */
export function pricesOf(components: readonly Component[]): readonly Priced[] {
  return components.map(({ path, cost }) => {
    if (cost !== undefined) return { path, ...cost };
    throw new InputError(
      `Cannot tell what a step costs as "${path}" has no cost: take components from training, or give each a "cost"`,
    );
  });
}

/**
 * Floating-point operations of a step in which some components are frozen, by the model of {@link ComponentCost}.
 *
 * It is the sum of `forward` of all components, `dW` of the active ones, and `dX` of those above the lowest active one
 * (by `depth`), where the chain of gradients ends. With nothing active it is the forward pass alone. Work of no
 * component, such as weight updates, is not counted.
 *
 * @param components All components
 * @param frozen Paths of those that are frozen
 * @returns FLOPs of the step
 * @throws {InputError} When a component has no cost
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { stepCost } from "@firn/train/policies";
 *
 * const layer = (depth: number) => {
 *   const cost = { forward: 1, dX: 1, dW: 1, depth };
 *   return { path: `${depth}`, layer: depth, parameters: [], kind: "linear", size: 4, cost } as const;
 * };
 * const model = [0, 1, 2].map(layer);
 * assertEquals(stepCost(model, []), 8); // the lowest needs no gradient of its input
 * assertEquals(stepCost(model, ["1"]), 7);
 * assertEquals(stepCost(model, ["0"]), 6);
 * assertEquals(stepCost(model, ["0", "1", "2"]), 3);
 * ```
 */
export function stepCost(components: readonly Component[], frozen: readonly string[]): number {
  const names = new Set(frozen);
  return costOf(pricesOf(components), (path) => !names.has(path));
}

/** {@link stepCost} for listed costs. */
export function costOf(prices: readonly Priced[], active: (path: string) => boolean): number {
  const lowest = Math.min(...prices.filter(({ path }) => active(path)).map(({ depth }) => depth));
  return prices.reduce(
    (sum, { path, forward, dX, dW, depth }) =>
      sum + forward + (active(path) ? dW : 0) + (depth > lowest ? dX : 0),
    0,
  );
}
