/**
 * Finds the components that a freeze policy sees in the graph of the loss. No architecture is known by name.
 *
 * @module
 */

import { topological } from "../../graph.ts";
import { baseOf } from "../../plan/alias.ts";
import type { Component } from "../../policy.ts";
import { sizeOf } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import type { Leaves, Path } from "../../tree.ts";
import { componentCosts, type CostMember } from "./component_costs.ts";
import { normParameters } from "./norm_parameters.ts";

/** What the path of a parameter adds to that of its module. */
const MEMBER = /(\.lora_[AB]|)\.(weight|bias)$|\.lora_(embedding_[AB]|magnitude_vector)$/;

/** The module that a parameter belongs to: `a.b` for `a.b.weight`, `a.b.bias`, and all that an adapter adds to it. */
export function moduleOf(path: Path): Path {
  return path.replace(MEMBER, "");
}

/**
 * Groups trainable parameters into components.
 *
 * @param loss The loss, a function of the leaves
 * @param options All parameters as leaves, and which of them are trained
 * @returns Components in the order of their first parameter
 */
export function findComponents(
  loss: Tensor,
  { leaves, trainable }: { readonly leaves: Leaves; readonly trainable: (path: Path) => boolean },
): Component[] {
  const kinds = kindsOf(topological([loss]));
  const modules = new Map<Path, [Path, Tensor][]>();
  for (const [path, leaf] of leaves) {
    if (!trainable(path)) continue;
    const module = moduleOf(path);
    if (modules.has(module)) modules.get(module)!.push([path, leaf]);
    else modules.set(module, [[path, leaf]]);
  }
  const costs = componentCosts(loss, membersOf(leaves, trainable));
  return [...modules].map(([path, members]) => {
    const found = members.map(([, leaf]) => kinds.get(leaf)).filter((k) => k !== undefined);
    const layer = /(?:^|\.)(\d+)(?:\.|$)/.exec(path);
    return {
      path,
      parameters: members.map(([p]) => p),
      layer: layer === null ? null : Number(layer[1]),
      kind: (["embedding", "linear", "norm"] as const).find((k) => found.includes(k)) ?? "other",
      size: members.reduce((n, [, leaf]) => n + sizeOf(leaf.shape), 0),
      // The loss may not read all of them.
      cost: costs.get(path) ?? { forward: 0, dX: 0, dW: 0, depth: 0 },
    };
  });
}

/** What each parameter leaf belongs to: a component that has a parameter that is trained, or none. */
export function membersOf(leaves: Leaves, trainable: (path: Path) => boolean): Map<Tensor, CostMember> {
  const modules = new Set([...leaves.keys()].filter(trainable).map(moduleOf));
  return new Map([...leaves].map(([path, leaf]) => {
    const module = moduleOf(path);
    return [leaf, { component: modules.has(module) ? module : null, trained: trainable(path) }];
  }));
}

/** What the graph uses each parameter for, by the roles of the inputs of ops and by the structure of composed norms. */
function kindsOf(order: readonly Tensor[]): ReadonlyMap<Tensor, Component["kind"]> {
  const kinds = new Map<Tensor, Component["kind"]>();
  for (const node of order) {
    const { inputs, op: { roles = [] } } = node, isNorm = roles.includes("gain");
    inputs.forEach((input, i) => {
      const role = roles[i] ?? null, base = baseOf(input);
      if (role === "table") kinds.set(base, "embedding");
      else if (kinds.has(base)) return;
      else if (role === "matrix") kinds.set(base, "linear");
      else if (role !== null && isNorm) kinds.set(base, "norm");
    });
  }
  for (const parameter of normParameters(order)) if (!kinds.has(parameter)) kinds.set(parameter, "norm");
  return kinds;
}
