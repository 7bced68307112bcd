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
  readonly operands: ReadonlySet<Tensor>;
}

/** More than a round trip through memory. Nodes that would have to recompute such a node are as costly. */
export const COSTLY: Recomputing = { operations: Infinity, operands: new Set() };

/**
 * Tells what it takes to compute a node again.
 *
 * @param node An elementwise node
 * @param known The same for its elementwise inputs
 * @returns Operations and operands, or {@link COSTLY}
 */
export function recomputing(node: Tensor, known: ReadonlyMap<Tensor, Recomputing>): Recomputing {
  const scalar = sizeOf(node.shape) === 1;
  let operations = 1;
  for (const input of node.inputs) operations += known.get(input)?.operations ?? 0;
  if (operations > (scalar ? CHEAP_SCALAR_OPERATIONS : CHEAP_OPERATIONS)) return COSTLY;
  const operands = new Set<Tensor>();
  for (const input of node.inputs) {
    const inner = known.get(input);
    if (inner !== undefined) { for (const operand of inner.operands) operands.add(operand); }
    else if (!isConstant(input)) operands.add(input);
  }
  let large = 0;
  for (const operand of operands) if (sizeOf(operand.shape) > 1) large++;
  return large > (scalar ? 0 : CHEAP_OPERANDS) ? COSTLY : { operations, operands };
}

/** What it takes to read a value that is in memory. */
export function reading(node: Tensor): Recomputing {
  return { operations: 0, operands: new Set([node]) };
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
    const cost = stored.has(node) ? reading(node) : recomputing(node, costs);
    if (cost === COSTLY) costly.add(node);
    costs.set(node, cost);
  }
  return costly;
}
