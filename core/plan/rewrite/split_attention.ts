/**
 * Splits gradients of attention over more workgroups.
 *
 * @module
 */

import { attentionTiling } from "../../../kernels/attention/tiling.ts";
import { rebuild } from "../../graph.ts";
import {
  type AttentionGradAttrs,
  attentionGradKVOp,
  attentionGradQOp,
} from "../../ops/attention_gradients.ts";
import { attentionSizes } from "../../ops/attention_sizes.ts";
import { sum } from "../../ops/broadcast.ts";
import { apply, type Op, pick, type Tensor } from "../../tensor.ts";
import { pickedBy } from "../alias.ts";
import { isPick } from "../predicates.ts";
import type { PlanOptions } from "../types.ts";

/** The gradients of attention, by the pass that computes each. */
const PASSES: ReadonlyMap<Op, "gradQ" | "gradKV"> = new Map<Op, "gradQ" | "gradKV">([
  [attentionGradQOp, "gradQ"],
  [attentionGradKVOp, "gradKV"],
]);

/**
 * Splits gradients of attention into parts that are summed, where the device has more processors than there are blocks of
 * rows.
 *
 * @param roots Roots of the graph
 * @param options The device, and the precision: matrix units of f16 need no parts
 * @returns Equivalent roots
 */
export function splitAttention(
  roots: readonly Tensor[],
  { target, precision }: Pick<PlanOptions, "target" | "precision">,
): Tensor[] {
  const divided = new Map<Tensor, Tensor>();
  return rebuild(roots, (node) => {
    if (isPick(node) && divided.has(node.inputs[0])) {
      return sum(pick(divided.get(node.inputs[0])!, pickedBy(node)), 0);
    }
    const pass = PASSES.get(node.op);
    if (pass === undefined) return node;
    const attrs = node.attrs as AttentionGradAttrs;
    const half = precision === "f16";
    const { parts = 1 } = attentionTiling(attentionSizes(node.inputs, attrs), { ...target, pass, half });
    if (parts === 1) return node;
    const all = apply(node.op, node.inputs, { ...attrs, parts });
    const total = sum(all, 0);
    divided.set(total, all);
    return total;
  });
}
