/**
 * Launch levels: how many launches must have run before a node can be computed.
 *
 * @module
 */

import { topological } from "../../graph.ts";
import { sameShape, sizeOf } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import { isElement, isSource, isSumEach } from "../predicates.ts";
import type { Fusion } from "../types.ts";

/** A graph with the facts that fusion needs of each node. */
export interface FusionGraph extends Pick<Fusion, "roots" | "order" | "readers"> {
  /** Elementwise nodes that lead to nothing but sums and roots. */
  readonly ending: ReadonlySet<Tensor>;
  /** Those of them that lead to nothing but sums. */
  readonly summing: ReadonlySet<Tensor>;
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
  for (const node of order) {
    const { inputs } = node;
    for (let i = 0; i < inputs.length; i++) {
      if (inputs.indexOf(inputs[i]) === i) readers.get(inputs[i])!.push(node);
    }
  }
  const ending = endingOf(order, readers), made = new Set(roots), summing = new Set<Tensor>();
  for (const node of order.toReversed()) {
    const after = readers.get(node)!;
    if (!ending.has(node) || made.has(node) || after.length === 0) continue;
    if (after.every((r) => isSumEach(r) || summing.has(r))) summing.add(node);
  }
  return { roots: made, order, readers, ending, summing };
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
  const awaited = awaitedUpdates(graph, level);
  if (awaited.size > 0) {
    for (const [sum, least] of delayed) awaited.set(sum, Math.max(least, awaited.get(sum) ?? 0));
    earliestLevels(graph, { fusable, level, least: awaited });
    moveLate(graph, { fusable, level });
  }
  moveBeside(graph, { fusable, level });
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
 * Moves what is summed back to a group that reads the same values and runs earlier: its launch can then sum it up, though other
 * summands come later. So what is measured of a parameter is summed by the launch that updates it, which must not wait.
 */
function moveBeside(
  { order, readers, summing }: FusionGraph,
  { fusable, level }: { readonly fusable: Fusable; readonly level: Map<Tensor, number> },
): void {
  const moved = new Set<Tensor>();
  const leastOf = (node: Tensor): number =>
    node.inputs.reduce(
      (least, input) =>
        isSource(input) ? least : Math.max(least, level.get(input)! + (fusable(input, node) ? 0 : 1)),
      0,
    );
  const besides = (node: Tensor): Tensor[] =>
    node.inputs.flatMap((input) => summing.has(input) ? [input] : readers.get(input)!)
      .filter((other) => isElement(other) && sameShape(other.shape, node.shape));
  /** Levels of the groups beside a node that have found theirs. */
  const settled = (node: Tensor): number[] =>
    besides(node).filter((other) => summing.has(other) ? moved.has(other) : readers.get(other)!.length > 0)
      .map((other) => level.get(other)!);
  // The second time for what reads only what others read that have moved.
  for (let round = 0; round < 2; round++) {
    for (const node of order) {
      if (!summing.has(node)) continue;
      const least = leastOf(node), own = level.get(node)!;
      const fits = settled(node).filter((other) => other >= least && other <= own);
      // What is summed for an earlier sum, such as that of a norm, has found its group, too.
      const best = fits.length > 0
        ? fits
        : besides(node).map((other) => level.get(other)!).filter((other) => other >= least && other < own);
      if (best.length === 0) continue;
      level.set(node, Math.max(...best));
      moved.add(node);
    }
  }
  // Roots that had moved with them.
  for (const node of order) {
    if (!isElement(node) || readers.get(node)!.length > 0) continue;
    if (!node.inputs.some((input) => readers.get(input)!.some((other) => moved.has(other)))) continue;
    const others = settled(node);
    if (others.length > 0) level.set(node, Math.max(leastOf(node), ...others));
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
  /** Sums that an ending node ends in. */
  const sumsOf = new Map<Tensor, ReadonlySet<Tensor>>();
  for (const node of order.toReversed()) {
    if (!ending.has(node)) continue;
    const sums = new Set<Tensor>();
    for (const reader of readers.get(node)!) {
      if (isSumEach(reader)) sums.add(reader);
      else for (const sum of sumsOf.get(reader) ?? []) sums.add(sum);
    }
    if (sums.size > 0) sumsOf.set(node, sums);
  }
  const known = new Map<Tensor, ReadonlySet<Tensor>>();
  const needs = (later: Tensor, sum: Tensor): boolean => {
    if (!known.has(later)) known.set(later, new Set(topological([later])));
    return known.get(later)!.has(sum);
  };
  for (const node of order) {
    if (isSource(node)) continue;
    const all = new Set<Tensor>();
    for (const reader of readers.get(node)!) for (const sum of sumsOf.get(reader) ?? []) all.add(sum);
    if (all.size < 2) continue;
    const sums = [...all];
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

/**
 * Finds sums that should wait for a launch that reads what they sum: what is measured of a parameter is then summed by the launch
 * that updates it, in place of one that computes the same before.
 *
 * @param graph The graph
 * @param level The latest level of each node
 * @returns The level of each sum that should wait
 */
function awaitedUpdates(
  { order, readers, summing }: FusionGraph,
  level: ReadonlyMap<Tensor, number>,
): Map<Tensor, number> {
  const waits = new Map<Tensor, number>(), after = new Map<Tensor, ReadonlySet<Tensor>>();
  const needing = (sum: Tensor): ReadonlySet<Tensor> => {
    if (!after.has(sum)) after.set(sum, dependents(sum, readers));
    return after.get(sum)!;
  };
  /** Makes sums wait that read a value at a level, where all others that read it do so later. */
  const delay = (
    value: Tensor,
    { sums, late }: { readonly sums: readonly Tensor[]; readonly late: number },
  ): void => {
    const beside = readers.get(value)!.filter((other) =>
      isElement(other) && !summing.has(other) && sameShape(other.shape, value.shape) &&
      readers.get(other)!.length > 0
    ).map((other) => level.get(other)!);
    const least = Math.min(...beside) + 1;
    if (beside.length === 0 || least <= late + 1) return;
    // An earlier sum of the same values, such as that of a norm, has a launch that can sum more of them.
    const early = readers.get(value)!.some((other) =>
      summing.has(other) && level.get(other)! <= late &&
      !sumsBelow(other, readers).some((sum) => sums.includes(sum))
    );
    if (early) return;
    for (const sum of sums) {
      // What updates wait for does not wait for them.
      const last = ![...needing(sum)].some((other) =>
        summing.has(other) || sameShape(other.shape, value.shape)
      );
      if (last && sum.inputs.length > 1 && least > (waits.get(sum) ?? 0)) waits.set(sum, least);
    }
  };
  for (const node of order) {
    if (!summing.has(node) && !isSumEach(node)) continue;
    for (const input of node.inputs) {
      if (summing.has(input) || sizeOf(input.shape) === 1) continue;
      if (!isSumEach(node)) delay(input, { sums: sumsBelow(node, readers), late: level.get(node)! });
      else if (isElement(input)) delay(input, { sums: [node], late: level.get(input)! });
    }
  }
  return waits;
}

/** The sums that a node leads to. */
function sumsBelow(node: Tensor, readers: ReadonlyMap<Tensor, readonly Tensor[]>): Tensor[] {
  return readers.get(node)!.flatMap((reader) => isSumEach(reader) ? [reader] : sumsBelow(reader, readers));
}

/** All nodes that depend on a node. */
function dependents(node: Tensor, readers: ReadonlyMap<Tensor, readonly Tensor[]>): ReadonlySet<Tensor> {
  const seen = new Set<Tensor>(), open = [node];
  while (open.length > 0) {
    for (const reader of readers.get(open.pop()!)!) {
      if (!seen.has(reader)) open.push(reader);
      seen.add(reader);
    }
  }
  return seen;
}
