/** Components with costs for the tests of what goes by cost. */

import type { Component, ComponentCost, Look } from "../../core/policy.ts";
import { stepCost } from "../../policies/mod.ts";
import { component, lookOf, randomFrom } from "./looks.ts";

/** Components with what they cost. */
export type Model = readonly (Component & { readonly cost: ComponentCost })[];

export function priced(path: string, cost: ComponentCost): Model[number] {
  return { ...component(path, { layer: cost.depth, kind: "linear", size: 4 }), cost };
}

/** Layers of three components: two side by side and one above them, each of 2 FLOPs a product. */
export function layers(count: number): Model {
  return Array.from(
    { length: count },
    (_, n) =>
      ["left", "right", "top"].map((name, i) =>
        priced(`${n}.${name}`, { forward: 2, dX: 2, dW: 2, depth: 2 * n + (i === 2 ? 1 : 0) })
      ),
  ).flat();
}

/** Components of random cost, up to `most` a product, at random depths. */
export function randomModel(seed: number, count: number, most = 100): Model {
  const random = randomFrom(seed), whole = (limit: number): number => 1 + Math.floor(limit * random());
  random();
  return Array.from(
    { length: count },
    (_, i) =>
      priced(`${i}`, {
        forward: whole(most),
        dX: whole(most),
        dW: whole(most),
        depth: whole(Math.ceil(count / 2)),
      }),
  );
}

export function lookAt(benefits: Readonly<Record<string, number>>, step: number, learningRate = 1): Look {
  const benefit = Object.fromEntries(Object.entries(benefits).map(([path, value]) => [path, [value]]));
  return lookOf({ benefit }, [step], [learningRate]);
}

export function costOf(model: Model, active: readonly string[]): number {
  return stepCost(model, model.map(({ path }) => path).filter((path) => !active.includes(path)));
}

/** All sets of components but the empty one. */
export function subsets(model: Model): readonly (readonly string[])[] {
  return Array.from(
    { length: 2 ** model.length - 1 },
    (_, n) => model.filter((_, i) => (n + 1) >> i & 1).map(({ path }) => path),
  );
}
