/**
 * Launches that make the copies of weights which outlive a step.
 *
 * @module
 */

import type { Tensor } from "../../tensor.ts";
import { batchElementwise } from "../fuse/batch_elementwise.ts";
import { copiedLeaf, isChanging, isKeptCopy } from "../kept_copy.ts";
import type { Unit } from "../types.ts";
import { halfCopy } from "../weight_copies.ts";
import type { LowerContext } from "./context.ts";
import { addPrograms, programOf } from "./elementwise.ts";

/** The launches, by what becomes of the weights. */
export interface LoweredCopies {
  readonly fixed: readonly Unit[];
  readonly changing: readonly Unit[];
}

/**
 * Lowers the copies of a graph.
 *
 * @param context The graph, all of whose other launches are known
 * @returns Launches that read weights and write their copies
 */
export function lowerCopies(context: LowerContext): LoweredCopies {
  const [changing, fixed] = [true, false].map((changes) => {
    const copies = context.fusion.order.filter((node) => isKeptCopy(node) && isChanging(node) === changes);
    return lowered(context, copies);
  });
  return { fixed, changing };
}

function lowered(context: LowerContext, copies: readonly Tensor[]): readonly Unit[] {
  if (copies.length === 0) return [];
  const { fusion, table, isHalf, target: { maxBindings } } = context;
  const targets = new Map(copies.map((copy) => [halfCopy(copiedLeaf(copy)), copy]));
  const nodes = [...targets.keys()], units: Unit[] = [];
  const inCopy = (node: Tensor): Tensor => targets.get(node) ?? node;
  const own: LowerContext = {
    ...context,
    targets,
    isHalf: (node, output) => isHalf(inCopy(node), output),
    table: { ...table, bufferOf: (node, output) => table.bufferOf(inCopy(node), output) },
    places: new Map(nodes.map((node, i) => [node, i])),
    units,
  };
  const programs = nodes.map((node) => programOf(own, { nodes: [node], stored: [node], summed: [] }));
  const batches = batchElementwise(programs, {
    ...fusion,
    order: [],
    readers: new Map(nodes.map((node) => [node, []])),
    targets,
    levelOf: () => 0,
    maxBindings,
  });
  for (const batch of batches) addPrograms(own, batch);
  return units;
}
