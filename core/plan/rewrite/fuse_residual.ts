/**
 * Fuses a residual add into its producer.
 *
 * @module
 */

import { topological } from "../../graph.ts";
import { embeddingGradOntoOp, embeddingGradOp } from "../../ops/embedding.ts";
import { type LayerNormGradAttrs, layerNormGradOp } from "../../ops/layer_norm.ts";
import { rmsNormGradOp } from "../../ops/rms_norm.ts";
import { apply, type Op, type Tensor } from "../../tensor.ts";
import { isPlainAdd } from "../predicates.ts";

/** Makes the node whose kernel computes the sum of a node and a tensor of its shape. */
type Fused = (node: Tensor, other: Tensor) => Tensor;

/** The ops whose kernels can add a tensor to their result. */
const FUSED: ReadonlyMap<Op, Fused> = new Map<Op, Fused>([
  [rmsNormGradOp, ({ inputs }, other) => apply(rmsNormGradOp, [...inputs, other], null)],
  [
    layerNormGradOp,
    ({ inputs, attrs }, other) => apply(layerNormGradOp, [...inputs, other], attrs as LayerNormGradAttrs),
  ],
  [embeddingGradOp, ({ inputs }, other) => apply(embeddingGradOntoOp, [other, ...inputs], null)],
]);

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
      ? node.inputs.findIndex((x) => FUSED.has(x.op) && uses.get(x) === 1)
      : -1;
    const changed = inputs.some((input, i) => input !== node.inputs[i]);
    if (producer >= 0) {
      const fused = FUSED.get(node.inputs[producer].op)!;
      done.set(node, fused(inputs[producer], inputs[1 - producer]));
    } else done.set(node, changed ? { ...node, inputs } : node);
  }
  return roots.map((root) => done.get(root)!);
}
