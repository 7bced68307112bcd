/**
 * When computing a value again is cheaper than keeping it in memory.
 *
 * @module
 */

import { sizeOf } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import { isConstant, isElement } from "../predicates.ts";

/** Recomputing an elementwise node is cheaper than a round trip through memory up to this many operations. */
const CHEAP_OPERATIONS = 8;
const CHEAP_SCALAR_OPERATIONS = 24;
const CHEAP_OPERANDS = 2;

/** What it takes to compute an elementwise node again. */
export interface Recomputing {
  readonly operations: number;
  readonly operands: readonly Tensor[];
}

/** More than a round trip through memory. Nodes that would have to recompute such a node are as costly. */
export const COSTLY: Recomputing = { operations: Infinity, operands: [] };

/**
 * Tells what it takes to compute a node again.
 *
 * @param node An elementwise node
 * @param known The same for its elementwise inputs, by their place among them
 * @returns Operations and operands, or {@link COSTLY}
 */
export function recomputing(node: Tensor, known: (input: number) => Recomputing | undefined): Recomputing {
  const { inputs, shape } = node, scalar = sizeOf(shape) === 1, inner = inputs.map((_, i) => known(i));
  const operations = inner.reduce((n, input) => n + (input?.operations ?? 0), 1);
  if (operations > (scalar ? CHEAP_SCALAR_OPERATIONS : CHEAP_OPERATIONS)) return COSTLY;
  const operands = [
    ...new Set(inputs.flatMap((input, i) => inner[i]?.operands ?? (isConstant(input) ? [] : [input]))),
  ];
  const large = operands.filter(({ shape }) => sizeOf(shape) > 1).length;
  return large > (scalar ? 0 : CHEAP_OPERANDS) ? COSTLY : { operations, operands };
}

/** What it takes to read a value that is in memory. */
export function reading(node: Tensor): Recomputing {
  return { operations: 0, operands: [node] };
}

/**
 * Finds the values that are too costly to compute again.
 *
 * @param order All nodes, inputs first
 * @param stored Elementwise nodes that are in memory
 * @returns Elementwise nodes that are not in memory
 */
export function costlyValues(order: readonly Tensor[], stored: ReadonlySet<Tensor>): ReadonlySet<Tensor> {
  const costs = new Map<Tensor, Recomputing>(), costly = new Set<Tensor>();
  for (const node of order) {
    if (!isElement(node)) continue;
    const cost = stored.has(node) ? reading(node) : recomputing(node, (i) => costs.get(node.inputs[i]));
    if (cost === COSTLY) costly.add(node);
    costs.set(node, cost);
  }
  return costly;
}
