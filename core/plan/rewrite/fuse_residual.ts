/**
 * Fuses a residual add into its producer.
 *
 * @module
 */

import { topological, usesOf, withInputs } from "../../graph.ts";
import type { Tensor } from "../../tensor.ts";
import { isPlainAdd } from "../predicates.ts";

/**
 * Replaces a sum by a node that computes one of its terms and adds the other, where nobody else reads that term.
 *
 * @param roots Roots of the graph
 * @returns Equivalent roots
 */
export function fuseResidual(roots: readonly Tensor[]): Tensor[] {
  const order = topological(roots), adds = ({ op }: Tensor): boolean => op.onto !== undefined;
  const uses = usesOf(roots, { order, counts: adds }), changed = new Map<Tensor, Tensor>();
  for (const node of order) {
    const producer = isPlainAdd(node) ? node.inputs.findIndex((x) => uses.get(x) === 1) : -1;
    let now = withInputs(node, changed);
    if (producer >= 0) {
      const { op, inputs: own, attrs } = now.inputs[producer];
      now = op.onto!(own, attrs, now.inputs[1 - producer]);
    }
    if (now !== node) changed.set(node, now);
  }
  return roots.map((root) => changed.get(root) ?? root);
}
