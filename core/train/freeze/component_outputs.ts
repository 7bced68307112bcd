/**
 * Finds what each component puts out in the graph of the loss.
 *
 * @module
 */

import { topological } from "../../graph.ts";
import type { Tensor } from "../../tensor.ts";
import type { Leaves, Path } from "../../tree.ts";
import { placesOf } from "./component_costs.ts";
import { membersOf } from "./components.ts";

/**
 * The output of each component: the first node that depends on all nodes that read its parameters, such as the sum with its bias,
 * or with the product of its adapter. Where a component is used twice, as a tied embedding, it is that of its first use.
 *
 * @param loss The loss
 * @param options All parameters as leaves, and which of them are trained
 * @returns Outputs by component, of those that the loss depends on
 */
export function componentOutputs(
  loss: Tensor,
  { leaves, trainable }: { readonly leaves: Leaves; readonly trainable: (path: Path) => boolean },
): Map<Path, Tensor> {
  const order = topological([loss]), members = membersOf(leaves, trainable);
  const readers = new Map<Path, Set<Tensor>>();
  for (const { node, component, used } of placesOf(order, members).places) {
    if (component === null || component !== used) continue;
    if (!readers.has(component)) readers.set(component, new Set());
    readers.get(component)!.add(node);
  }
  return new Map([...readers].flatMap(([path, own]) => {
    const output = joinOf(order, own);
    return output === null ? [] : [[path, output] as const];
  }));
}

/** The first node of an order that is one of some nodes or depends on it, and so on all of them. */
function joinOf(order: readonly Tensor[], nodes: ReadonlySet<Tensor>): Tensor | null {
  const [first] = nodes;
  if (nodes.size === 1) return first;
  const reached = new Map<Tensor, ReadonlySet<Tensor>>();
  for (let i = order.indexOf(first); i < order.length; i++) {
    const node = order[i], below = new Set(node.inputs.flatMap((input) => [...reached.get(input) ?? []]));
    if (nodes.has(node)) below.add(node);
    if (below.size === nodes.size) return node;
    if (below.size > 0) reached.set(node, below);
  }
  return null;
}
