/**
 * Values of a forward pass that may go beyond the range of f16: the largest f16 is 65504.
 *
 * Gradients are no question of range: the factor of the loss, which training finds, keeps them within it. What follows from a
 * norm, a softmax or attention is near 1. All else may grow from layer to layer, as the sums of residual connections do, and
 * the products of gates and values.
 *
 * @module
 */

import { recomputeOp } from "../ops/recompute.ts";
import { unscaleOp } from "../ops/unscale.ts";
import type { Tensor } from "../tensor.ts";
import { outputOf } from "./alias.ts";
import { isAdd, isAlias, isLeaf, isSource } from "./predicates.ts";
import type { Fusion, IsLarge } from "./types.ts";

/**
 * Finds the nodes of a forward pass that may be beyond the range of f16. Queries, keys and values are not among them: they are
 * products of normed values, and attention reads them.
 *
 * @param graph A graph whose gradients are unscaled by `unscale`
 * @returns The nodes
 */
export function unboundedNodes({ order, readers }: Pick<Fusion, "order" | "readers">): readonly Tensor[] {
  const gradients = scaledNodes(order);
  const isMoved = ({ op }: Tensor): boolean => op.range?.result === "moved";
  const attended = new Set<Tensor>();
  for (const node of order.toReversed()) {
    const reads = (reader: Tensor): boolean =>
      reader.op.range?.reads === "bounded" || ((isMoved(reader) || isAlias(reader)) && attended.has(reader));
    if (readers.get(node)!.some(reads)) attended.add(node);
  }
  // The gain of a norm whose result is added to what it comes from may be as large as that.
  const isAdded = (node: Tensor): boolean =>
    readers.get(node)!.some((reader) => isAdd(reader) || (isAlias(reader) && isAdded(reader)));
  const bounded = (node: Tensor): boolean =>
    (node.op.range?.result === "bounded" && !isAdded(node)) || attended.has(node) ||
    (isMoved(node) && node.inputs.every((input) => isSource(input) || bounded(outputOf(input).node)));
  return order.filter((node) => !isSource(node) && !isAlias(node) && !gradients.has(node) && !bounded(node));
}

/**
 * Tells which operands of products may be beyond the range of f16: nodes of the forward pass that may be, and what is given.
 *
 * @param graph A graph whose gradients are unscaled by `unscale`
 * @returns The answer
 */
export function largeValues(graph: Pick<Fusion, "order" | "readers">): IsLarge {
  const nodes = new Set(unboundedNodes(graph));
  return (tensor) => {
    const { node } = outputOf(tensor);
    return isSource(node) || nodes.has(node);
  };
}

/**
 * Finds what depends on the factor of the loss.
 *
 * @param order A graph whose gradients are unscaled by `unscale`
 * @returns Gradients, and what is computed from them
 */
export function scaledNodes(order: readonly Tensor[]): ReadonlySet<Tensor> {
  const factors = new Set<Tensor>();
  const mark = (node: Tensor): void => {
    // Only what is stored: a constant of the factor's may be one of the forward pass, too.
    if (isLeaf(node)) factors.add(node);
    node.inputs.forEach(mark);
  };
  for (const { op, inputs } of order) if (op === unscaleOp) mark(inputs[1]);
  const scaled = new Set<Tensor>();
  for (const node of order) {
    // What is computed again only waits for a gradient.
    const inputs = node.op === recomputeOp ? node.inputs.slice(0, 1) : node.inputs;
    if (inputs.some((input) => factors.has(input) || scaled.has(input))) scaled.add(node);
  }
  return scaled;
}
