/**
 * Launch levels: how many launches must have run before a node can be computed.
 *
 * @module
 */

import { topological } from "../../graph.ts";
import type { Tensor } from "../../tensor.ts";
import { isElement, isSource, isSumEach } from "../predicates.ts";
import type { Fusion } from "../types.ts";

/** A graph with the facts that fusion needs of each node. */
export interface FusionGraph extends Pick<Fusion, "roots" | "order" | "readers"> {
  /** Elementwise nodes that lead to nothing but sums and roots. */
  readonly ending: ReadonlySet<Tensor>;
}

/** Whether a kernel may compute both ends of an edge without writing the first to memory. */
export type Fusable = (from: Tensor, to: Tensor) => boolean;

/**
 * Lists the nodes of a graph, and who reads each.
 *
 * @param roots Values that must exist in memory
 * @returns The graph
 */
export function fusionGraph(roots: readonly Tensor[]): FusionGraph {
  const order = topological(roots);
  const readers = new Map<Tensor, Tensor[]>(order.map((n) => [n, []]));
  for (const node of order) for (const input of new Set(node.inputs)) readers.get(input)!.push(node);
  return { roots: new Set(roots), order, readers, ending: endingOf(order, readers) };
}

function endingOf(
  order: readonly Tensor[],
  readers: ReadonlyMap<Tensor, readonly Tensor[]>,
): ReadonlySet<Tensor> {
  const ending = new Set<Tensor>();
  for (const node of order.toReversed()) {
    const after = readers.get(node)!;
    if (isElement(node) && after.every((r) => isSumEach(r) || ending.has(r))) ending.add(node);
  }
  return ending;
}

/**
 * Finds the level of each node. Levels grow along every edge that is not fusable, so nodes of one level never depend on
 * each other through a launch. Elementwise nodes run as late as their readers allow: a backward kernel then recomputes a
 * cheap activation instead of keeping it.
 *
 * @param graph The graph
 * @param fusable Which edges need no launch
 * @returns The level of each node
 */
export function levelsOf(graph: FusionGraph, fusable: Fusable): Map<Tensor, number> {
  const level = earliestLevels(graph, { fusable });
  const delayed = delayedSums(graph, level);
  if (delayed.size > 0) earliestLevels(graph, { fusable, level, least: delayed });
  moveLate(graph, { fusable, level });
  return level;
}

/** The first level at which each node can run, from `least` on. */
function earliestLevels(
  { order }: FusionGraph,
  { fusable, level = new Map(), least = new Map() }: {
    readonly fusable: Fusable;
    readonly level?: Map<Tensor, number>;
    readonly least?: ReadonlyMap<Tensor, number>;
  },
): Map<Tensor, number> {
  for (const node of order) {
    let own = least.get(node) ?? 0;
    for (const input of node.inputs) {
      own = Math.max(own, level.get(input)! + (isSource(input) || fusable(input, node) ? 0 : 1));
    }
    level.set(node, own);
  }
  return level;
}

/** Moves elementwise nodes up to the level of their readers; a root that nobody reads, to that of its neighbours. */
function moveLate(
  { order, readers }: FusionGraph,
  { fusable, level }: { readonly fusable: Fusable; readonly level: Map<Tensor, number> },
): void {
  for (const node of order.toReversed()) {
    const after = readers.get(node)!;
    if (!isElement(node)) continue;
    if (after.length === 0) {
      const beside = node.inputs.flatMap((input) => isSource(input) ? [] : readers.get(input)!);
      let last = level.get(node)!;
      for (const other of beside) if (isElement(other)) last = Math.max(last, level.get(other)!);
      level.set(node, last);
      continue;
    }
    let own = Infinity;
    for (const reader of after) own = Math.min(own, level.get(reader)! - (fusable(node, reader) ? 0 : 1));
    level.set(node, own);
  }
}

/**
 * Finds sums that should wait for a later sum over the same values: both can then share a launch. So what is measured of
 * some gradients is summed in the launches that compute the norm of all.
 *
 * @param graph The graph
 * @param level The earliest level of each node
 * @returns The level of each sum that should wait
 */
function delayedSums(
  { order, readers, ending }: FusionGraph,
  level: ReadonlyMap<Tensor, number>,
): ReadonlyMap<Tensor, number> {
  const waits = new Map<Tensor, number>();
  const levels = new Set(order.flatMap((node) => isSumEach(node) ? level.get(node)! : []));
  if (levels.size < 2) return waits;
  /** Sums that an ending node ends in. */
  const sumsOf = new Map<Tensor, ReadonlySet<Tensor>>();
  for (const node of order.toReversed()) {
    if (!ending.has(node)) continue;
    const sums = readers.get(node)!.flatMap((r) => isSumEach(r) ? [r] : [...sumsOf.get(r)!]);
    sumsOf.set(node, new Set(sums));
  }
  const known = new Map<Tensor, ReadonlySet<Tensor>>();
  const needs = (later: Tensor, sum: Tensor): boolean => {
    if (!known.has(later)) known.set(later, new Set(topological([later])));
    return known.get(later)!.has(sum);
  };
  for (const node of order) {
    if (isSource(node)) continue;
    const sums = [...new Set(readers.get(node)!.flatMap((r) => [...sumsOf.get(r) ?? []]))];
    for (const sum of sums) {
      // It shares a launch already.
      if (sums.some((other) => other !== sum && level.get(other) === level.get(sum))) continue;
      for (const later of sums) {
        const least = level.get(later)!;
        if (least > (waits.get(sum) ?? level.get(sum)!) && !needs(later, sum)) waits.set(sum, least);
      }
    }
  }
  return waits;
}
