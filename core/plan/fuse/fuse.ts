/**
 * Which nodes share a kernel: levels, clusters of elementwise nodes, and which values reach memory.
 *
 * @module
 */

import { topological } from "../../graph.ts";
import { sameShape, sizeOf, type Tensor } from "../../tensor.ts";
import { isConstant, isElement, isReduction, isReshape, isSource, isSumEach } from "../predicates.ts";
import type { Cluster, FuseOptions, Fusion } from "../types.ts";
import { crowded, cutOf, cycles } from "./fusion_limits.ts";

/** Recomputing an elementwise node is cheaper than a round trip through memory up to this many operations. */
const CHEAP_OPERATIONS = 8;
const CHEAP_SCALAR_OPERATIONS = 24;
const CHEAP_OPERANDS = 2;

/** What it takes to compute an elementwise node again. */
interface Recomputing {
  readonly operations: number;
  readonly operands: ReadonlySet<Tensor>;
}

/** More than a round trip through memory; so are all nodes that would have to compute such a node again. */
const COSTLY: Recomputing = { operations: Infinity, operands: new Set() };

function recomputing(node: Tensor, known: ReadonlyMap<Tensor, Recomputing>): Recomputing {
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

/**
 * What only ends in sums or in memory: it rides with another reader of the same values, so that those are read once.
 *
 * @param order All nodes, inputs first
 * @param readers Who reads each
 * @returns Elementwise nodes
 */
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
 * Sums that read values which a later sum, that does not need them, reads too: at its level their terms can ride together,
 * as what is measured of some gradients does with the norm of all.
 *
 * @param graph Nodes, and the levels that they have at least
 * @param ending What only ends in sums or in memory
 * @returns The level that each of these sums is to have
 */
function sumsThatWait(
  { order, readers, level }: Pick<Fusion, "order" | "readers" | "level">,
  ending: ReadonlySet<Tensor>,
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
      // It has company already.
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
 * Groups the elementwise nodes of a graph.
 *
 * Nodes of one shape are joined along their edges when they can run at the same level. Levels grow along every other
 * edge, so a cluster can never depend on itself through another launch. Nodes run as late as their readers allow,
 * which lets a backward kernel recompute a cheap activation instead of keeping it. Sums and copies of a value join another
 * group that reads it at their level, unless they overwrite a leaf that is read at a later one. Those that one launch
 * cannot hold, or that would make launches wait for each other, form groups of their own; a group that is still too
 * large is cut at a value that stands for several others.
 *
 * @param roots Values that must exist in memory
 * @param options Which nodes overwrite a leaf, and how many buffers a launch can bind
 * @returns The groups
 */
export function fuse(roots: readonly Tensor[], options: FuseOptions): Fusion {
  const { targets, cuts = new Set() } = options;
  const order = topological(roots);
  const readers = new Map<Tensor, Tensor[]>(order.map((n) => [n, []]));
  for (const node of order) for (const input of new Set(node.inputs)) readers.get(input)!.push(node);
  const fusable = (from: Tensor, to: Tensor): boolean =>
    isElement(from) && isElement(to) && sameShape(from.shape, to.shape) && !cuts.has(from);

  const ending = endingOf(order, readers), level = new Map<Tensor, number>();
  function climb(least: ReadonlyMap<Tensor, number>): void {
    for (const node of order) {
      let own = least.get(node) ?? 0;
      for (const input of node.inputs) {
        own = Math.max(own, level.get(input)! + (isSource(input) || fusable(input, node) ? 0 : 1));
      }
      level.set(node, own);
    }
  }
  climb(new Map());
  const waits = sumsThatWait({ order, readers, level }, ending);
  if (waits.size > 0) climb(waits);
  for (const node of order.toReversed()) {
    const after = readers.get(node)!;
    if (!isElement(node)) continue;
    if (after.length === 0) {
      const beside = node.inputs.flatMap((input) => isSource(input) ? [] : readers.get(input)!);
      level.set(node, Math.max(...[node, ...beside.filter(isElement)].map((n) => level.get(n)!)));
      continue;
    }
    let own = Infinity;
    for (const reader of after) own = Math.min(own, level.get(reader)! - (fusable(node, reader) ? 0 : 1));
    level.set(node, own);
  }

  let parent = new Map<Tensor, Tensor>(order.filter(isElement).map((n) => [n, n]));
  const find = (node: Tensor): Tensor => {
    let top = node;
    while (parent.get(top) !== top) top = parent.get(top)!;
    parent.set(node, top);
    return top;
  };
  for (const node of order) {
    for (const input of node.inputs) {
      if (fusable(input, node) && level.get(input) === level.get(node)) parent.set(find(input), find(node));
    }
  }
  // Groups that overwrite a leaf wait for all who read it: those must not wait for what joins the group.
  const lastRead = (node: Tensor, seen = new Set<Tensor>()): number => {
    let last = -Infinity;
    for (const reader of readers.get(node)!) {
      // An element may be computed again by elements and reductions that read it, and the leaf is read there.
      if (seen.has(reader) || (isElement(node) && !isElement(reader) && !isReduction(reader))) continue;
      seen.add(reader);
      last = Math.max(last, level.get(reader)!);
      if (isElement(reader) || isReshape(reader)) last = Math.max(last, lastRead(reader, seen));
    }
    return last;
  };
  const fixed = new Set<Tensor>();
  for (const [node, leaf] of targets) {
    if (readers.has(leaf) && lastRead(leaf) > level.get(node)!) fixed.add(find(node));
  }

  const apart = parent, needed = new Set(roots);
  /** How many groups of a value's readers each rider had to leave. */
  const left = new Map<Tensor, number>();
  for (;;) {
    parent = new Map(apart);
    const riders = ride();
    const fusion: Fusion = { roots: needed, order, readers, level, ...clustered() };
    const full = crowded(fusion, options), leaving = new Set<Tensor>();
    const waiting = riders.length === 0 ? [] : cycles(fusion, options);
    for (const clusters of [...full.map((cluster) => [cluster]), ...waiting]) {
      const rider = riders.findLast((rider) => clusters.includes(fusion.clusterOf.get(rider)!));
      if (rider !== undefined) leaving.add(rider);
    }
    for (const rider of leaving) left.set(rider, (left.get(rider) ?? 0) + 1);
    if (leaving.size > 0) continue;
    const found = full.flatMap((cluster) => cutOf(cluster, fusion, options) ?? []);
    return found.length === 0 ? fusion : fuse(roots, { ...options, cuts: new Set([...cuts, ...found]) });
  }

  /** Joins groups; returns the nodes whose group joined another, in that order. */
  function ride(): Tensor[] {
    const riders: Tensor[] = [];
    const join = (reader: Tensor, host: Tensor): void => {
      const [from, to] = [find(reader), find(host)];
      if (from === to || fixed.has(from) || fixed.has(to)) return;
      parent.set(from, to);
      riders.push(reader);
    };
    for (const node of order) {
      if (isSource(node)) continue;
      const beside = readers.get(node)!.filter((reader) =>
        isElement(reader) && sameShape(reader.shape, node.shape)
      );
      for (const together of Map.groupBy(beside, (r) => `${level.get(r)} ${left.get(r) ?? 0}`).values()) {
        const host = together.find((reader) => !ending.has(reader)) ?? together[0];
        for (const reader of together) if (ending.has(reader)) join(reader, host);
      }
    }
    return riders;
  }

  /** The groups as they are joined, and which values they store. */
  function clustered(): Pick<Fusion, "clusters" | "clusterOf" | "stored"> {
    const cost = new Map<Tensor, Recomputing>();
    const stored = new Set<Tensor>();
    for (const node of order) {
      if (!isElement(node)) continue;
      cost.set(node, recomputing(node, cost));
      const after = readers.get(node)!;
      const must = needed.has(node) || cuts.has(node) ||
        after.some((r) => !isElement(r) && !isReduction(r) && !isSumEach(r));
      const shared = after.some((r) =>
        (isElement(r) && find(r) !== find(node)) || (isReduction(r) && after.length > 1)
      );
      if (must || (shared && cost.get(node) === COSTLY)) {
        stored.add(node);
        cost.set(node, { operations: 0, operands: new Set([node]) });
      }
    }

    const members = new Map<Tensor, Tensor[]>();
    for (const node of order) {
      if (!isElement(node)) continue;
      const top = find(node);
      if (members.has(top)) members.get(top)!.push(node);
      else members.set(top, [node]);
    }
    const clusters: Cluster[] = [], clusterOf = new Map<Tensor, Cluster>();
    for (const nodes of members.values()) {
      const cluster: Cluster = {
        nodes,
        stored: nodes.filter((n) => stored.has(n)),
        summed: nodes.filter((n) => readers.get(n)!.some((r) => isSumEach(r))),
      };
      for (const node of nodes) clusterOf.set(node, cluster);
      if (cluster.stored.length + cluster.summed.length > 0) clusters.push(cluster);
    }
    return { clusters, clusterOf, stored };
  }
}
