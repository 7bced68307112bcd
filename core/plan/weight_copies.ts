/**
 * Copies of weights that the products of a plan of precision f16 read.
 *
 * A plan makes them in each run, unless it is told what becomes of weights between its runs. Then it keeps them: a weight that
 * stays as it is is copied once, and an update writes the copy in the launch that writes the weight.
 *
 * @module
 */

import { rebuild, topological } from "../graph.ts";
import { f16round } from "../../kernels/half.ts";
import { reshape } from "../ops/movement.ts";
import { unscaleOp } from "../ops/unscale.ts";
import { apply, type Op, type Tensor } from "../tensor.ts";
import { baseOf } from "./alias.ts";
import { isKeptCopy, keptCopy } from "./kept_copy.ts";
import { isLeaf, isProduct, isProductSum, pathOf } from "./predicates.ts";
import type { PlanOptions } from "./types.ts";
import { scaledNodes } from "./unbounded.ts";

/** The same numbers rounded to f16. */
const roundOp: Op<null> = {
  name: "f16",
  infer: ([x]) => [{ shape: x.shape, dtype: "f32" }],
  element: { text: ([x]) => x, value: f16round },
};

/**
 * A copy that a plan of precision f16 stores as f16 where its readers can read that.
 *
 * @param tensor What to copy
 * @returns The copy
 */
export function halfCopy(tensor: Tensor): Tensor {
  return apply(roundOp, [tensor], null);
}

/** Whether a launch of the plan computes a node as a copy of a weight. */
export function isRounding({ op }: Tensor): boolean {
  return op === roundOp;
}

/** Whether a node is a copy that {@link copyWeights} added. */
export function isWeightCopy(node: Tensor): boolean {
  return isRounding(node) || isKeptCopy(node);
}

/** A graph whose products read copies, and which roots overwrite a leaf or a copy. */
export type CopiedWeights = { readonly roots: readonly Tensor[] } & Required<Pick<PlanOptions, "updates">>;

/**
 * In a plan of precision f16, makes products read copies of weights as f16: one copy for all products that read a weight as
 * their second operand. What an optimizer multiplies stays f32, and in a wide plan what only products of gradients read so:
 * that is a batch, which may be beyond the range of f16.
 *
 * @param roots Roots of the graph
 * @param options The precision, updates, and what becomes of weights between runs
 * @returns Roots that are equivalent up to the rounding of weights, then a root for each copy that changes with its weight
 */
export function copyWeights(
  roots: readonly Tensor[],
  { precision = "f32", updates = new Map(), weightKind, wide = false }: Pick<
    PlanOptions,
    "precision" | "updates" | "weightKind" | "wide"
  >,
): CopiedWeights {
  if (precision !== "f16") return { roots, updates };
  const rootOf = new Map([...updates].map(([root, leaf]) => [leaf, root]));
  const copyFor = (weight: Tensor): Tensor => {
    const kind = weightKind?.(pathOf(weight)) ?? null;
    if (weightKind !== undefined && rootOf.has(weight)) return keptCopy(weight, { changes: true });
    return kind === null ? halfCopy(weight) : keptCopy(weight, { changes: kind === "changing" });
  };
  const weights = wide ? forwardWeights(topological(roots)) : null, exact = new Set<Tensor>();
  const copies = new Map<Tensor, Tensor>();
  const copyOf = (weight: Tensor): Tensor => {
    const base = baseOf(weight);
    if (!isLeaf(base) || base.dtype !== "f32" || weights?.has(base) === false) return weight;
    if (!copies.has(base)) copies.set(base, copyFor(base));
    const copy = copies.get(base)!;
    return base === weight ? copy : reshape(copy, weight.shape);
  };
  const copied = rebuild(roots, (node) => {
    if (node.op === unscaleOp || node.inputs.some((x) => exact.has(x))) exact.add(node);
    if (!isProduct(node) || exact.has(node)) return node;
    const [from, to] = secondOperands(node);
    return { ...node, inputs: node.inputs.map((x, i) => i >= from && i < to ? copyOf(x) : x) };
  });
  const changed = [...copies].filter(([weight, copy]) => isKeptCopy(copy) && rootOf.has(weight));
  return {
    roots: [...copied, ...changed.map(([weight]) => copied[rootOf.get(weight)!])],
    updates: new Map([...updates, ...changed.map(([, copy], i) => [roots.length + i, copy] as const)]),
  };
}

/** The inputs of a product, from one to before another, that are second operands: several of a sum of products. */
function secondOperands(node: Tensor): readonly [number, number] {
  return isProductSum(node) ? [node.inputs.length / 2, node.inputs.length] : [1, 2];
}

/** Second operands of the products of a forward pass. */
function forwardWeights(order: readonly Tensor[]): ReadonlySet<Tensor> {
  const gradients = scaledNodes(order);
  const products = order.filter((node) => isProduct(node) && !gradients.has(node));
  return new Set(products.flatMap((node) => node.inputs.slice(...secondOperands(node)).map(baseOf)));
}
