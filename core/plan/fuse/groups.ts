/**
 * Groups of elementwise nodes that one kernel computes.
 *
 * @module
 */

import { sameShape } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import { baseOf } from "../alias.ts";
import { isElement, isProduct, isReduction, isReshape, isSource } from "../predicates.ts";
import type { Cluster, FuseOptions, Fusion } from "../types.ts";
import { clustersOf } from "./clusters.ts";
import { cycles } from "./cycles.ts";
import { crowdedClusters, isCrowded } from "./fusion_limits.ts";
import { type FusionGraph, levelsOf } from "./levels.ts";

/** A joined group that is too large loses one part after the other; one that binds more than so many launches is split. */
const MOST_LAUNCHES = 8;

/** Groups that can be merged. */
interface Groups {
  /** The node that stands for the group of a node. */
  find(node: Tensor): Tensor;
  /** Makes the group of one node part of the group of another. */
  merge(from: Tensor, to: Tensor): void;
  copy(): Groups;
}

function disjointGroups(parent: Map<Tensor, Tensor>): Groups {
  const find = (node: Tensor): Tensor => {
    let top = node;
    for (let above = parent.get(top)!; above !== top; above = parent.get(top)!) top = above;
    // Shortens the way for all nodes on it.
    for (let on = node; on !== top;) {
      const above = parent.get(on)!;
      parent.set(on, top);
      on = above;
    }
    return top;
  };
  return {
    find,
    merge: (from, to) => void parent.set(find(from), find(to)),
    copy: () => disjointGroups(new Map(parent)),
  };
}

/** What {@link groupNodes} finds. */
export interface Grouping {
  readonly fusion: Fusion;
  /** Groups that bind more buffers than a launch can. */
  readonly crowded: readonly Cluster[];
  /** Groups that wait for each other: for a value, or to overwrite a leaf that another one reads. */
  readonly blocked: readonly (readonly Cluster[])[];
}

/**
 * Groups the elementwise nodes of a graph.
 *
 * Nodes of one shape are joined along their edges when they run at the same level. Then each group that leads to nothing
 * but sums and roots joins a group that reads the same values at its level, and so do groups that read the same product, unless one of them overwrites a leaf that is
 * read at a later level. Those that one launch cannot hold, or that would make launches wait for each other, stay apart.
 *
 * @param graph The graph
 * @param options `cuts`: nodes that are in memory, whoever reads them, and end their group; targets and limits
 * @returns Groups, some of which may still be too large
 */
export function groupNodes(
  graph: FusionGraph,
  options: FuseOptions & { readonly cuts: ReadonlySet<Tensor> },
): Grouping {
  const { cuts } = options, { roots, order, readers } = graph;
  const fusable = (from: Tensor, to: Tensor): boolean =>
    isElement(from) && isElement(to) && sameShape(from.shape, to.shape) && !cuts.has(from);
  const level = levelsOf(graph, fusable);
  const alongEdges = disjointGroups(new Map(order.filter(isElement).map((n) => [n, n])));
  for (const node of order) {
    for (const input of node.inputs) {
      if (fusable(input, node) && level.get(input) === level.get(node)) alongEdges.merge(input, node);
    }
  }
  const fixed = fixedGroups(graph, { ...options, level, groups: alongEdges });
  const neighbours = neighboursOf(graph, level);

  /** How often each node had to leave the group that it joined; only nodes with the same count join. */
  const left = new Map<Tensor, number>();
  for (;;) {
    const groups = alongEdges.copy();
    const joined = joinNeighbours(graph, { neighbours, groups, fixed, left });
    const made = clustersOf(graph, { groupOf: groups.find, cuts });
    const fusion: Fusion = { roots, order, readers, level, ...made };
    const crowded = crowdedClusters(fusion, options);
    const blocked = joined.length + options.targets.size === 0 ? [] : cycles(fusion, options);
    const { stored } = fusion, leaving = new Set<Tensor>();
    const near = crowded.filter((cluster) =>
      !isCrowded(cluster, { ...options, stored, launches: MOST_LAUNCHES })
    );
    for (const clusters of [...near.map((cluster) => [cluster]), ...blocked]) {
      const last = joined.findLast((node) => clusters.includes(fusion.clusterOf.get(node)!));
      if (last !== undefined) leaving.add(last);
    }
    if (leaving.size === 0) return { fusion, crowded, blocked };
    for (const node of leaving) left.set(node, (left.get(node) ?? 0) + 1);
  }
}

/**
 * Groups that overwrite a leaf which is read at a later level. Such a group waits for all readers of the leaf, so it must
 * not compute what they need: no other group joins it.
 */
function fixedGroups(
  { readers }: FusionGraph,
  { targets, level, groups }: Pick<FuseOptions, "targets"> & {
    readonly level: ReadonlyMap<Tensor, number>;
    readonly groups: Groups;
  },
): ReadonlySet<Tensor> {
  const fixed = new Set<Tensor>();
  for (const [node, leaf] of targets) {
    if (readers.has(leaf) && lastRead(leaf, { readers, level }) > level.get(node)!) {
      fixed.add(groups.find(node));
    }
  }
  return fixed;
}

/** The last level at which a kernel may read a leaf. */
function lastRead(
  leaf: Tensor,
  { readers, level }: Pick<Fusion, "readers" | "level">,
): number {
  let last = -Infinity;
  const seen = new Set<Tensor>(), open = [leaf];
  while (open.length > 0) {
    const node = open.pop()!;
    for (const reader of readers.get(node)!) {
      // An elementwise node or a reduction may recompute what it reads, and then reads the leaf itself.
      if (seen.has(reader) || (isElement(node) && !isElement(reader) && !isReduction(reader))) continue;
      seen.add(reader);
      last = Math.max(last, level.get(reader)!);
      if (isElement(reader) || isReshape(reader)) open.push(reader);
    }
  }
  return last;
}

/** Nodes that read the same value, have its shape and run at one level. */
interface Neighbours {
  readonly readers: readonly Tensor[];
  /** Whether one joins: all do where they read a product, whose kernel can then compute them; else those that lead to sums and
   * roots, and of those that read a leaf or a constant, those that lead to sums alone. */
  readonly joins: (reader: Tensor) => boolean;
}

/** Neighbours of which the groups of some may join another's. */
function neighboursOf(
  { order, readers, ending, summing }: FusionGraph,
  level: ReadonlyMap<Tensor, number>,
): Neighbours[] {
  return order.flatMap((node) => {
    const beside = readers.get(node)!.filter((reader) =>
      isElement(reader) && sameShape(reader.shape, node.shape)
    );
    if (beside.length < 2) return [];
    const all = isProduct(baseOf(node)), some = isSource(node) ? summing : ending;
    const joins = (reader: Tensor): boolean => all || some.has(reader);
    return [...Map.groupBy(beside, (reader) => level.get(reader)!).values()]
      .filter((readers) => readers.length > 1 && readers.some(joins)).map((readers) => ({ readers, joins }));
  });
}

/**
 * Joins the groups of neighbours.
 *
 * @param graph The graph
 * @param options Neighbours; groups, which are changed; groups that stay as they are; how often each node had to leave
 * @returns The nodes whose group joined another, in that order
 */
function joinNeighbours(
  { ending }: FusionGraph,
  { neighbours, groups, fixed, left }: {
    readonly neighbours: readonly Neighbours[];
    readonly groups: Groups;
    readonly fixed: ReadonlySet<Tensor>;
    readonly left: ReadonlyMap<Tensor, number>;
  },
): Tensor[] {
  const joined: Tensor[] = [];
  const join = (reader: Tensor, host: Tensor): void => {
    const [from, to] = [groups.find(reader), groups.find(host)];
    if (from === to || fixed.has(from) || fixed.has(to)) return;
    groups.merge(from, to);
    joined.push(reader);
  };
  for (const { readers, joins } of neighbours) {
    for (const together of Map.groupBy(readers, (reader) => left.get(reader) ?? 0).values()) {
      const host = together.find((reader) => !ending.has(reader)) ?? together[0];
      for (const reader of together) if (joins(reader)) join(reader, host);
    }
  }
  return joined;
}
