/**
 * Walks over graphs: topological order and rebuilding.
 *
 * @module
 */

import type { Tensor } from "./tensor.ts";

/**
 * Lists the nodes that the roots depend on, each after its inputs.
 *
 * @param roots Where to start
 * @returns Nodes in topological order, without repeats
 */
export function topological(roots: readonly Tensor[]): Tensor[] {
  const order: Tensor[] = [], seen = new Set<Tensor>();
  /** The way to a node, and how many inputs of each node on it were entered. */
  const path: Tensor[] = [], entered: number[] = [];
  const enter = (node: Tensor): void => {
    const before = seen.size;
    if (seen.add(node).size === before) return;
    path.push(node);
    entered.push(0);
  };
  for (const root of roots) {
    enter(root);
    while (path.length > 0) {
      const top = path.length - 1, node = path[top], next = entered[top]++;
      if (next < node.inputs.length) enter(node.inputs[next]);
      else {
        order.push(node);
        path.pop();
        entered.pop();
      }
    }
  }
  return order;
}

/**
 * Rebuilds a graph from its leaves up. Nodes whose inputs did not change are kept.
 *
 * @param roots Roots to rebuild
 * @param rewrite Called with each node after its inputs were replaced
 * @returns The new roots
 */
export function rebuild(roots: readonly Tensor[], rewrite: (node: Tensor) => Tensor): Tensor[] {
  const changed = new Map<Tensor, Tensor>();
  for (const node of topological(roots)) {
    const rewritten = rewrite(withInputs(node, changed));
    if (rewritten !== node) changed.set(node, rewritten);
  }
  return roots.map((root) => changed.get(root) ?? root);
}

/**
 * Replaces inputs of a node.
 *
 * @param node The node
 * @param changed Nodes to be replaced, and what replaces them
 * @returns The node itself where none of its inputs is replaced
 */
export function withInputs(node: Tensor, changed: ReadonlyMap<Tensor, Tensor>): Tensor {
  const { inputs } = node;
  if (changed.size === 0) return node;
  for (const input of inputs) {
    if (changed.has(input)) return { ...node, inputs: inputs.map((x) => changed.get(x) ?? x) };
  }
  return node;
}

/**
 * Counts how often nodes are read.
 *
 * @param roots Roots of a graph, each of which is read once by whoever asks for it
 * @param options All nodes; `counts`: of which of them to count
 * @returns Reads by node
 */
export function usesOf(
  roots: readonly Tensor[],
  { order, counts }: { readonly order: readonly Tensor[]; counts(node: Tensor): boolean },
): ReadonlyMap<Tensor, number> {
  const uses = new Map<Tensor, number>();
  const use = (node: Tensor): void => {
    if (counts(node)) uses.set(node, (uses.get(node) ?? 0) + 1);
  };
  roots.forEach(use);
  for (const { inputs } of order) inputs.forEach(use);
  return uses;
}
