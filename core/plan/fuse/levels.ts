/**
 * Launch levels: how many launches must have run before a node can be computed.
 *
 * @module
 */

import { topological } from "../../graph.ts";
import { sizeOf } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import type { FusionGraph } from "./graph.ts";

/** Whether a kernel may compute both ends of an edge without writing the first to memory. */
export type Fusable = (from: number, to: number) => boolean;

/**
 * Finds the level of each node. Levels grow along every edge that is not fusable, so nodes of one level never depend on
 * each other through a launch. Elementwise nodes run as late as their readers allow: a backward kernel then recomputes a
 * cheap activation instead of keeping it.
 *
 * @param graph The graph
 * @param fusable Which edges need no launch
 * @returns The level of each node, by place
 */
export function levelsOf(graph: FusionGraph, fusable: Fusable): readonly number[] {
  const level = graph.order.map(() => 0);
  earliestLevels(graph, { fusable, level });
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

/** Finds the first level at which each node can run, from `least` on. */
function earliestLevels(
  { inputs, sources }: FusionGraph,
  { fusable, level, least }: {
    readonly fusable: Fusable;
    readonly level: number[];
    readonly least?: ReadonlyMap<number, number>;
  },
): void {
  for (let node = 0; node < level.length; node++) {
    let own = least?.get(node) ?? 0;
    for (const input of inputs[node]) {
      own = Math.max(own, level[input] + (sources[input] || fusable(input, node) ? 0 : 1));
    }
    level[node] = own;
  }
}

/** Moves elementwise nodes up to the level of their readers; a root that nobody reads, to that of its neighbours. */
function moveLate(
  { inputs, readers, elements, sources }: FusionGraph,
  { fusable, level }: { readonly fusable: Fusable; readonly level: number[] },
): void {
  for (let node = level.length - 1; node >= 0; node--) {
    if (!elements[node]) continue;
    if (readers[node].length === 0) {
      let last = level[node];
      for (const input of inputs[node]) {
        if (sources[input]) continue;
        for (const other of readers[input]) if (elements[other]) last = Math.max(last, level[other]);
      }
      level[node] = last;
      continue;
    }
    let own = Infinity;
    for (const reader of readers[node]) own = Math.min(own, level[reader] - (fusable(node, reader) ? 0 : 1));
    level[node] = own;
  }
}

/**
 * Moves what is summed back to a group that reads the same values and runs earlier: its launch can then sum it up, though other
 * summands come later. So what is measured of a parameter is summed by the launch that updates it, which must not wait.
 */
function moveBeside(
  { inputs, readers, elements, sources, shapes, summing }: FusionGraph,
  { fusable, level }: { readonly fusable: Fusable; readonly level: number[] },
): void {
  const moved = new Set<number>();
  const leastOf = (node: number): number =>
    inputs[node].reduce(
      (least, input) =>
        sources[input] ? least : Math.max(least, level[input] + (fusable(input, node) ? 0 : 1)),
      0,
    );
  const besides = (node: number): number[] =>
    inputs[node].flatMap((input) => summing[input] ? [input] : readers[input])
      .filter((other) => elements[other] && shapes[other] === shapes[node]);
  /** Levels of the groups beside a node that have found theirs. */
  const settled = (beside: readonly number[]): number[] =>
    beside.filter((other) => summing[other] ? moved.has(other) : readers[other].length > 0)
      .map((other) => level[other]);
  // The second time for what reads only what others read that have moved.
  for (let round = 0; round < 2; round++) {
    for (let node = 0; node < level.length; node++) {
      if (!summing[node]) continue;
      const least = leastOf(node), own = level[node], beside = besides(node);
      const fits = settled(beside).filter((other) => other >= least && other <= own);
      // What is summed for an earlier sum, such as that of a norm, has found its group, too.
      const best = fits.length > 0
        ? fits
        : beside.map((other) => level[other]).filter((other) => other >= least && other < own);
      if (best.length === 0) continue;
      level[node] = Math.max(...best);
      moved.add(node);
    }
  }
  // Roots that had moved with them.
  for (let node = 0; node < level.length; node++) {
    if (!elements[node] || readers[node].length > 0) continue;
    if (!inputs[node].some((input) => readers[input].some((other) => moved.has(other)))) continue;
    const others = settled(besides(node));
    if (others.length > 0) level[node] = Math.max(leastOf(node), ...others);
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
  { order, readers, sources, sums, ending }: FusionGraph,
  level: readonly number[],
): ReadonlyMap<number, number> {
  const waits = new Map<number, number>(), none: ReadonlySet<number> = new Set();
  /** Sums that an ending node ends in. */
  const sumsOf: ReadonlySet<number>[] = order.map(() => none);
  const sumsAfter = (node: number): ReadonlySet<number> => {
    const [first] = readers[node];
    // Most nodes have one reader, whose sums are theirs.
    if (readers[node].length === 1 && !sums[first]) return sumsOf[first];
    const all = new Set<number>();
    for (const reader of readers[node]) {
      if (sums[reader]) all.add(reader);
      else for (const sum of sumsOf[reader]) all.add(sum);
    }
    return all;
  };
  for (let node = order.length - 1; node >= 0; node--) if (ending[node]) sumsOf[node] = sumsAfter(node);
  const known = new Map<number, ReadonlySet<Tensor>>();
  const needs = (later: number, sum: number): boolean => {
    if (!known.has(later)) known.set(later, new Set(topological([order[later]])));
    return known.get(later)!.has(order[sum]);
  };
  for (let node = 0; node < order.length; node++) {
    if (sources[node] || readers[node].every((reader) => sumsOf[reader].size === 0)) continue;
    const all = new Set<number>();
    for (const reader of readers[node]) for (const sum of sumsOf[reader]) all.add(sum);
    if (all.size < 2) continue;
    const together = [...all];
    for (const sum of together) {
      // It shares a launch already.
      if (together.some((other) => other !== sum && level[other] === level[sum])) continue;
      for (const later of together) {
        const least = level[later];
        if (least > (waits.get(sum) ?? level[sum]) && !needs(later, sum)) waits.set(sum, least);
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
  { order, inputs, readers, elements, sums, shapes, summing }: FusionGraph,
  level: readonly number[],
): Map<number, number> {
  const waits = new Map<number, number>(), after = new Map<number, readonly number[]>();
  const needing = (sum: number): readonly number[] => {
    if (!after.has(sum)) after.set(sum, dependents(sum, readers));
    return after.get(sum)!;
  };
  /** The sums that a node leads to. */
  const sumsBelow = (node: number): number[] =>
    readers[node].flatMap((reader) => sums[reader] ? [reader] : sumsBelow(reader));
  /** Makes sums wait that read a value at a level, where all others that read it do so later. */
  const delay = (
    value: number,
    { below, late }: { readonly below: readonly number[]; readonly late: number },
  ): void => {
    let least = Infinity;
    for (const other of readers[value]) {
      const isUpdate = elements[other] && !summing[other] && shapes[other] === shapes[value] &&
        readers[other].length > 0;
      if (isUpdate) least = Math.min(least, level[other] + 1);
    }
    if (least === Infinity || least <= late + 1) return;
    // An earlier sum of the same values, such as that of a norm, has a launch that can sum more of them.
    const early = readers[value].some((other) =>
      summing[other] && level[other] <= late && !sumsBelow(other).some((sum) => below.includes(sum))
    );
    if (early) return;
    for (const sum of below) {
      // What updates wait for does not wait for them.
      const last = !needing(sum).some((other) => summing[other] || shapes[other] === shapes[value]);
      if (last && inputs[sum].length > 1 && least > (waits.get(sum) ?? 0)) waits.set(sum, least);
    }
  };
  for (let node = 0; node < order.length; node++) {
    if (!summing[node] && !sums[node]) continue;
    for (const input of inputs[node]) {
      if (summing[input] || sizeOf(order[input].shape) === 1) continue;
      if (!sums[node]) delay(input, { below: sumsBelow(node), late: level[node] });
      else if (elements[input]) delay(input, { below: [node], late: level[input] });
    }
  }
  return waits;
}

/** All nodes that depend on a node. */
function dependents(node: number, readers: readonly (readonly number[])[]): readonly number[] {
  const seen = new Set<number>(), open = [node];
  while (open.length > 0) {
    for (const reader of readers[open.pop()!]) {
      if (!seen.has(reader)) open.push(reader);
      seen.add(reader);
    }
  }
  return [...seen];
}
