/**
 * Splits nodes over more workgroups.
 *
 * @module
 */

import { rebuild } from "../../graph.ts";
import { sum } from "../../ops/broadcast.ts";
import { apply, pick, type Tensor } from "../../tensor.ts";
import { pickedBy } from "../alias.ts";
import { isPick } from "../predicates.ts";
import type { PlanOptions } from "../types.ts";

/**
 * Splits nodes into parts that are summed, such as gradients of attention, where their op says that this is faster.
 *
 * @param roots Roots of the graph
 * @param options The device, and the precision
 * @returns Equivalent roots
 */
export function sumParts(
  roots: readonly Tensor[],
  { target, precision }: Pick<PlanOptions, "target" | "precision">,
): Tensor[] {
  const divided = new Map<Tensor, Tensor>();
  return rebuild(roots, (node) => {
    if (isPick(node) && divided.has(node.inputs[0])) {
      return sum(pick(divided.get(node.inputs[0])!, pickedBy(node)), 0);
    }
    const { op, inputs } = node;
    const attrs = op.inParts?.(inputs, node.attrs, { target, half: precision === "f16" }) ?? null;
    if (attrs === null) return node;
    const all = apply(op, inputs, attrs), total = sum(all, 0);
    divided.set(total, all);
    return total;
  });
}
