/**
 * Which values of a plan are stored as f16.
 *
 * Storage belongs to the plan, not to the graph: every tensor is f32 in meaning, and kernels compute in f32 whatever they
 * load. A value between two launches takes half the memory where the kernel that writes it and all that read it know
 * f16. What is small or summed up stays f32: statistics of rows, scores of classes, losses, and all that follows from
 * gradients of parameters.
 *
 * @module
 */

import { matmulSumOp } from "../ops/matmul.ts";
import { addOp } from "../ops/arithmetic.ts";
import type { ReduceAttrs } from "../ops/broadcast.ts";
import { apply, leafOp, type Op, sizeOf, type Tensor } from "../tensor.ts";
import { isReshape, outputOf } from "./alias.ts";
import { isElement, isProduct, isReduction, isSumEach } from "./predicates.ts";
import type { Fusion, IsHalf } from "./types.ts";

/** Whether a kernel can read an input as f16: programs of elements convert what they load. */
function reads(node: Tensor, index: number): boolean {
  const { op } = node;
  return op.element !== undefined || isReduction(node) || isSumEach(node) || op === matmulSumOp ||
    (isProduct(node) && index < 2) || op.half?.reads.includes(index) === true;
}

/**
 * Decides for each value of a graph.
 *
 * Products and ops that say so write f16, and elementwise nodes do where an input of their size could be f16.
 *
 * @param fusion The graph
 * @returns The decision
 */
export function halfValues({ order, roots }: Fusion): IsHalf {
  // Outputs that stay f32, and outputs that are f16.
  const wide = new Map<Tensor, Set<number>>(), half = new Map<Tensor, readonly number[]>();
  const keepWide = (tensor: Tensor): void => {
    const { node, output } = outputOf(tensor);
    if (!wide.has(node)) wide.set(node, new Set());
    wide.get(node)!.add(output);
  };
  const isHalf = (tensor: Tensor, output = 0): boolean => {
    const value = outputOf(tensor, output);
    return half.get(value.node)?.includes(value.output) === true;
  };
  const own = order.filter((node) => outputOf(node).node === node);
  for (const root of roots) keepWide(root);
  for (const node of exactNodes(order)) keepWide(node);
  for (const node of own) {
    node.inputs.forEach((input, i) => {
      if (!reads(node, i)) keepWide(input);
    });
  }

  /** What a node would write as f16 if all that read it could. */
  const writes = (node: Tensor, could: ReadonlySet<Tensor>): readonly number[] => {
    const { op, inputs, dtype, shape } = node;
    if (op.half !== undefined) {
      const moved = op.half.reads.every((i) => i >= inputs.length || isHalf(inputs[i]));
      return op.half.follows && !moved ? [] : op.half.writes;
    }
    if (dtype !== "f32" || sizeOf(shape) === 1) return [];
    if (isReduction(node)) return isShort(node) && could.has(outputOf(inputs[0]).node) ? [0] : [];
    const large = inputs.some((x) => could.has(outputOf(x).node) && sizeOf(x.shape) === sizeOf(shape));
    return isProduct(node) || (isElement(node) && large) ? [0] : [];
  };
  const sums = own.filter(({ op }) => op === matmulSumOp);
  for (;;) {
    const could = new Set<Tensor>();
    for (const node of own) {
      const written = writes(node, could);
      if (written.length > 0) could.add(node);
      half.set(node, written.filter((k) => wide.get(node)?.has(k) !== true));
    }
    // A sum of products reads all operands of a side in one way.
    const mixed = sums.flatMap(({ inputs }) => {
      const sides = [inputs.slice(0, inputs.length / 2), inputs.slice(inputs.length / 2)];
      return sides.filter((side) => new Set(side.map((x) => isHalf(x))).size > 1).flat();
    });
    if (mixed.length === 0) return isHalf;
    mixed.forEach(keepWide);
  }
}

/** Most terms of a sum that may be f16: parts of a gradient, heads that share a key. */
const FEW = 16;

/** Whether a reduction adds few numbers that lie apart: rows of one value each are statistics. */
function isShort({ inputs: [{ shape }], attrs }: Tensor): boolean {
  const { axis, count, kind } = attrs as ReduceAttrs;
  return kind === "sum" && sizeOf(shape.slice(axis, axis + count)) <= FEW &&
    sizeOf(shape.slice(axis + count)) > 1;
}

/** What an exact op reads, through sums of its terms, and all that follows from one. */
function exactNodes(order: readonly Tensor[]): ReadonlySet<Tensor> {
  const exact = new Set<Tensor>();
  const mark = (node: Tensor): void => {
    exact.add(node);
    if (isReshape(node) || node.op === addOp) node.inputs.forEach(mark);
  };
  for (const node of order) {
    if (node.op.exact || node.inputs.some((input) => exact.has(input))) exact.add(node);
  }
  for (const node of order) if (node.op.exact) mark(node.inputs[0]);
  return exact;
}

/** The same numbers rounded to f16. */
const halfOp: Op<null> = {
  name: "f16",
  half: { reads: [], writes: [0] },
  infer: ([x]) => [{ shape: x.shape, dtype: "f32" }],
  element: { text: ([x]) => x, value: Math.f16round },
};

/** Whether a node is what {@link copyWeights} adds. */
export const isWeightCopy = ({ op }: Tensor): boolean => op === halfOp;

/**
 * Makes products read copies of weights as f16: one copy for all products that read a weight as their second operand.
 *
 * @returns From a node to itself, or to one that reads a copy
 */
export function copyWeights(): (node: Tensor) => Tensor {
  const copies = new Map<Tensor, Tensor>();
  const copyOf = (weight: Tensor): Tensor => {
    if (weight.op !== leafOp || weight.dtype !== "f32") return weight;
    if (!copies.has(weight)) copies.set(weight, apply(halfOp, [weight], null));
    return copies.get(weight)!;
  };
  return (node) => {
    if (!isProduct(node)) return node;
    // The second operand, or those of a sum of products.
    const [from, to] = node.op === matmulSumOp ? [node.inputs.length / 2, node.inputs.length] : [1, 2];
    return { ...node, inputs: node.inputs.map((x, i) => i >= from && i < to ? copyOf(x) : x) };
  };
}
