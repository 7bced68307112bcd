/**
 * Fuses a residual add into its producer.
 *
 * @module
 */

import { topological } from "../../graph.ts";
import type { Tensor } from "../../tensor.ts";
import { isPlainAdd } from "../predicates.ts";

/**
 * Replaces a sum by a node that computes one of its terms and adds the other, where nobody else reads that term.
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
    const producer = isPlainAdd(node)
      ? node.inputs.findIndex((x) => x.op.onto !== undefined && uses.get(x) === 1)
      : -1;
    const changed = inputs.some((input, i) => input !== node.inputs[i]);
    if (producer >= 0) {
      const { op, inputs: own, attrs } = inputs[producer];
      done.set(node, op.onto!(own, attrs, inputs[1 - producer]));
    } else done.set(node, changed ? { ...node, inputs } : node);
  }
  return roots.map((root) => done.get(root)!);
}
