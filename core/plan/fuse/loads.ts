/**
 * What a kernel must load to compute elementwise nodes.
 *
 * @module
 */

import type { Tensor } from "../../tensor.ts";
import { baseOf } from "../alias.ts";
import { isConstant, isElement, isScalarAt, isStepScalar } from "../predicates.ts";

/** The binding that a load takes, as a number; null for a constant, which takes none. */
export type LoadKey = (node: Tensor) => number | null;

/** Numbers the bindings of loads: a buffer is bound once for each shape in which it is read. */
export function loadKeys(): LoadKey {
  const keys = new Map<Tensor, Map<string, number>>();
  let next = 1;
  return (node) => {
    if (isConstant(node)) return null;
    // All scalars of the step are in one buffer.
    if (isStepScalar(node)) return 0;
    const base = baseOf(isScalarAt(node) ? node.inputs[0] : node),
      first = node.shape.findIndex((size) => size !== 1);
    const shape = first < 0 ? "" : node.shape.slice(first).join();
    const known = keys.get(base) ?? new Map<string, number>();
    keys.set(base, known);
    if (!known.has(shape)) known.set(shape, next++);
    return known.get(shape)!;
  };
}

/**
 * Walks what a kernel computes for some nodes, inputs first.
 *
 * @param results What the kernel computes
 * @param options `isComputed`: whether it computes an elementwise node, where it does not load it; `visit`: told each
 * node once, computed or loaded
 */
export function walkComputed(
  results: readonly Tensor[],
  { isComputed, seen, visit }: {
    isComputed(node: Tensor): boolean;
    readonly seen: Set<Tensor>;
    visit(node: Tensor, computed: boolean): void;
  },
): void {
  for (const result of results) {
    const open: { readonly node: Tensor; next: number }[] = [];
    const enter = (node: Tensor): void => {
      if (seen.has(node)) return;
      seen.add(node);
      if (node === result || (isElement(node) && isComputed(node))) open.push({ node, next: 0 });
      else visit(node, false);
    };
    enter(result);
    while (open.length > 0) {
      const top = open.at(-1)!;
      if (top.next < top.node.inputs.length) enter(top.node.inputs[top.next++]);
      else {
        open.pop();
        visit(top.node, true);
      }
    }
  }
}
