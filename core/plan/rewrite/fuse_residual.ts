/**
 * Sums that the kernel of one of their terms can form.
 *
 * @module
 */

import { topological } from "../../graph.ts";
import type { Tensor } from "../../tensor.ts";
import { isPlainAdd } from "../predicates.ts";

/**
 * Replaces a sum by one of its terms where that is an op with `plus` whose value nobody else needs.
 *
 * @param roots Roots of the graph
 * @returns Equivalent roots
 */
export function fuseResidual(roots: readonly Tensor[]): Tensor[] {
  const order = topological(roots);
  const uses = new Map<Tensor, number>();
  const use = (node: Tensor): void => void uses.set(node, (uses.get(node) ?? 0) + 1);
  roots.forEach(use);
  for (const node of order) node.inputs.forEach(use);
  const done = new Map<Tensor, Tensor>();
  for (const node of order) {
    const inputs = node.inputs.map((input) => done.get(input)!);
    const host = isPlainAdd(node)
      ? node.inputs.findIndex((x) => x.op.plus !== undefined && uses.get(x) === 1)
      : -1;
    const changed = inputs.some((input, i) => input !== node.inputs[i]);
    done.set(
      node,
      host >= 0
        ? inputs[host].op.plus!(inputs[host], inputs[1 - host])
        : changed
        ? { ...node, inputs }
        : node,
    );
  }
  return roots.map((root) => done.get(root)!);
}
