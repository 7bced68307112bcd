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
  for (const root of roots) {
    const stack: { node: Tensor; next: number }[] = [];
    if (!seen.has(root)) stack.push({ node: root, next: 0 });
    seen.add(root);
    while (stack.length > 0) {
      const top = stack[stack.length - 1];
      if (top.next === top.node.inputs.length) {
        order.push(top.node);
        stack.pop();
        continue;
      }
      const input = top.node.inputs[top.next++];
      if (!seen.has(input)) {
        seen.add(input);
        stack.push({ node: input, next: 0 });
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
  const done = new Map<Tensor, Tensor>();
  for (const node of topological(roots)) {
    const moved = node.inputs.some((input) => done.get(input) !== input);
    done.set(node, rewrite(moved ? { ...node, inputs: node.inputs.map((i) => done.get(i)!) } : node));
  }
  return roots.map((root) => done.get(root)!);
}
