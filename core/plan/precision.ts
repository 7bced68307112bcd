/**
 * Which values of a plan are stored as f16.
 *
 * Storage belongs to the plan, not to the graph: every tensor is f32 in meaning, and kernels compute in f32 whatever they
 * load. A value between two launches is stored as f16 where the kernel that writes it and all that read it can do so.
 * Statistics and parameter gradients stay f32; so do losses. Scores of classes are f16 like any product, as in the autocast of
 * PyTorch: their gradient takes their place in memory, and two large products read it.
 *
 * @module
 */

import type { ReduceAttrs } from "../ops/broadcast.ts";
import { unscaleOp } from "../ops/unscale.ts";
import { sizeOf } from "../spec.ts";
import type { HalfRule, Op, Tensor } from "../tensor.ts";
import { outputOf } from "./alias.ts";
import {
  isAdd,
  isElement,
  isProduct,
  isProductSum,
  isReduction,
  isReshape,
  isSumEach,
} from "./predicates.ts";
import type { Fusion, IsHalf, PlanOptions } from "./types.ts";
import { unboundedNodes } from "./unbounded.ts";
import { isWeightCopy } from "./weight_copies.ts";

/** Ops whose first input is never stored as f16, and neither is anything that is computed from their output. */
const EXACT: ReadonlySet<Op> = new Set([unscaleOp]);

/** Whether a rule lets a kernel read an input as f16. */
function mayRead({ reads }: HalfRule, index: number): boolean {
  return reads === "all" || reads.includes(index);
}

/** Whether the kernel of a node can read an input as f16; elementwise kernels convert what they load. */
function reads(node: Tensor, index: number): boolean {
  if (isElement(node) || isReduction(node) || isSumEach(node) || isProductSum(node)) return true;
  if (isProduct(node)) return index < 2;
  const { half } = node.op;
  return half !== undefined && mayRead(half, index);
}

/**
 * Decides which values of a graph are stored as f16.
 *
 * Products and ops with a rule write f16; elementwise nodes do where an input of their size could be f16.
 *
 * @param fusion The graph
 * @param options `wide`: whether values of the forward pass that may be beyond the range of f16 stay f32
 * @returns The decision
 */
export function halfValues(
  { order, roots, readers }: Pick<Fusion, "order" | "roots" | "readers">,
  { wide: unbounded = false }: Pick<PlanOptions, "wide"> = {},
): IsHalf {
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
  if (unbounded) {
    for (const node of unboundedNodes({ order, readers })) {
      // A weight beyond the range is an error of its own.
      if (isWeightCopy(node)) continue;
      const outputs = node.op.infer(node.inputs, node.attrs);
      wide.set(node, new Set(outputs.keys()));
    }
  }
  for (const node of own) {
    node.inputs.forEach((input, i) => {
      if (!reads(node, i)) keepWide(input);
    });
  }

  /** The outputs that a node would write as f16 if all of their readers could. */
  const writes = (node: Tensor, could: ReadonlySet<Tensor>): readonly number[] => {
    const { op, inputs, dtype, shape } = node, rule = op.half;
    if (isWeightCopy(node)) return [0];
    if (rule !== undefined) {
      const moved = inputs.every((input, i) => !mayRead(rule, i) || isHalf(input));
      return rule.moves && !moved ? [] : rule.writes;
    }
    if (dtype !== "f32" || sizeOf(shape) === 1) return [];
    if (isReduction(node)) return isShort(node) && could.has(outputOf(inputs[0]).node) ? [0] : [];
    const large = inputs.some((x) => could.has(outputOf(x).node) && sizeOf(x.shape) === sizeOf(shape));
    return isProduct(node) || (isElement(node) && large) ? [0] : [];
  };
  const sums = own.filter(isProductSum);
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

/** A sum of at most so many terms may be f16: parts of a gradient, or heads that share a key. */
const FEW = 16;

/** Whether a reduction adds few terms. A sum over the last axis is a statistic and never short. */
function isShort({ inputs: [{ shape }], attrs }: Tensor): boolean {
  const { axis, count, kind } = attrs as ReduceAttrs;
  return kind === "sum" && sizeOf(shape.slice(axis, axis + count)) <= FEW &&
    sizeOf(shape.slice(axis + count)) > 1;
}

/** What exact ops read, through reshapes and sums, and all that is computed from their outputs. */
function exactNodes(order: readonly Tensor[]): ReadonlySet<Tensor> {
  const exact = new Set<Tensor>();
  const mark = (node: Tensor): void => {
    exact.add(node);
    if (isReshape(node) || isAdd(node)) node.inputs.forEach(mark);
  };
  for (const node of order) {
    if (EXACT.has(node.op) || node.inputs.some((input) => exact.has(input))) exact.add(node);
  }
  for (const node of order) if (EXACT.has(node.op)) mark(node.inputs[0]);
  return exact;
}
