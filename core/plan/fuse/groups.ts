/**
 * Groups of elementwise nodes that one kernel computes.
 *
 * @module
 */

import type { Tensor } from "../../tensor.ts";
import { baseOf } from "../alias.ts";
import { isProduct, isReduction, isReshape } from "../predicates.ts";
import type { Cluster, FuseOptions, Fusion } from "../types.ts";
import { clustersOf } from "./clusters.ts";
import { cycles } from "./cycles.ts";
import { crowdedClusters, isCrowded } from "./fusion_limits.ts";
import { type FusionGraph, knownOf } from "./graph.ts";
import { levelsOf } from "./levels.ts";

/** A joined group that is too large loses one part after the other; one that binds more than so many launches is split. */
const MOST_LAUNCHES = 8;

/** Groups that can be merged. */
interface Groups {
  /** The node that stands for the group of a node. */
  find(node: number): number;
  /** Makes the group of one node part of the group of another. */
  merge(from: number, to: number): void;
  copy(): Groups;
}

function disjointGroups(parent: Int32Array): Groups {
  const find = (node: number): number => {
    let top = node;
    while (parent[top] !== top) top = parent[top];
    // Shortens the way for all nodes on it.
    for (let on = node; on !== top;) {
      const above = parent[on];
      parent[on] = top;
      on = above;
    }
    return top;
  };
  return {
    find,
    merge: (from, to) => void (parent[find(from)] = find(to)),
    copy: () => disjointGroups(parent.slice()),
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
  const { cuts } = options, { roots, order, places, inputs, elements, shapes } = graph;
  const fusable = (from: number, to: number): boolean =>
    elements[from] && elements[to] && shapes[from] === shapes[to] && !cuts.has(order[from]);
  const levels = levelsOf(graph, fusable), level = knownOf(graph, (at) => levels[at]);
  const read = new Array<Tensor[] | undefined>(order.length);
  const readers = knownOf(graph, (at) => read[at] ??= graph.readers[at].map((reader) => order[reader]));
  const alongEdges = disjointGroups(Int32Array.from(order.keys()));
  inputs.forEach((all, node) => {
    for (const input of all) {
      if (fusable(input, node) && levels[input] === levels[node]) alongEdges.merge(input, node);
    }
  });
  const fixed = fixedGroups(graph, { ...options, levels, groups: alongEdges });
  const neighbours = neighboursOf(graph, levels);

  /** How often each node had to leave the group that it joined; only nodes with the same count join. */
  const left = new Map<number, number>();
  for (;;) {
    const groups = alongEdges.copy();
    const joined = joinNeighbours(graph, { neighbours, groups, fixed, left });
    const made = clustersOf(graph, { readers, groupOf: groups.find, cuts });
    const fusion: Fusion = { roots, order, places, readers, level, ...made };
    const crowded = crowdedClusters(fusion, options);
    const blocked = joined.length + options.targets.size === 0 ? [] : cycles(fusion, options);
    const { stored } = fusion, leaving = new Set<number>();
    const near = crowded.filter((cluster) =>
      !isCrowded(cluster, { ...options, stored, launches: MOST_LAUNCHES })
    );
    for (const clusters of [...near.map((cluster) => [cluster]), ...blocked]) {
      const last = joined.findLast((node) => clusters.includes(fusion.clusterOf.get(order[node])!));
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
  graph: FusionGraph,
  { targets, levels, groups }: Pick<FuseOptions, "targets"> & {
    readonly levels: readonly number[];
    readonly groups: Groups;
  },
): ReadonlySet<number> {
  const fixed = new Set<number>();
  for (const [node, leaf] of targets) {
    const at = graph.places.get(node)!, read = graph.places.get(leaf);
    if (read !== undefined && lastRead(read, { graph, levels }) > levels[at]) fixed.add(groups.find(at));
  }
  return fixed;
}

/** The last level at which a kernel may read a leaf. */
function lastRead(
  leaf: number,
  { graph: { order, readers, elements }, levels }: {
    readonly graph: FusionGraph;
    readonly levels: readonly number[];
  },
): number {
  let last = -Infinity;
  const seen = new Set<number>(), open = [leaf];
  while (open.length > 0) {
    const node = open.pop()!;
    for (const reader of readers[node]) {
      // An elementwise node or a reduction may recompute what it reads, and then reads the leaf itself.
      if (seen.has(reader) || (elements[node] && !elements[reader] && !isReduction(order[reader]))) continue;
      seen.add(reader);
      last = Math.max(last, levels[reader]);
      if (elements[reader] || isReshape(order[reader])) open.push(reader);
    }
  }
  return last;
}

/** Nodes that read the same value, have its shape and run at one level. */
interface Neighbours {
  readonly readers: readonly number[];
  /** Whether one joins: all do where they read a product, whose kernel can then compute them; else those that lead to sums and
   * roots, and of those that read a leaf or a constant, those that lead to sums alone. */
  readonly joins: (reader: number) => boolean;
}

/** Neighbours of which the groups of some may join another's. */
function neighboursOf(
  { order, readers, elements, sources, shapes, ending, summing }: FusionGraph,
  levels: readonly number[],
): Neighbours[] {
  const none: Neighbours[] = [];
  return order.flatMap((value, node) => {
    if (readers[node].length < 2) return none;
    const beside = readers[node].filter((reader) => elements[reader] && shapes[reader] === shapes[node]);
    if (beside.length < 2) return none;
    const all = isProduct(baseOf(value)), some = sources[node] ? summing : ending;
    const joins = (reader: number): boolean => all || some[reader];
    return [...Map.groupBy(beside, (reader) => levels[reader]).values()]
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
    readonly fixed: ReadonlySet<number>;
    readonly left: ReadonlyMap<number, number>;
  },
): number[] {
  const joined: number[] = [];
  const join = (reader: number, host: number): void => {
    const from = groups.find(reader), to = groups.find(host);
    if (from === to || fixed.has(from) || fixed.has(to)) return;
    groups.merge(from, to);
    joined.push(reader);
  };
  for (const { readers, joins } of neighbours) {
    for (const together of Map.groupBy(readers, (reader) => left.get(reader) ?? 0).values()) {
      const host = together.find((reader) => !ending[reader]) ?? together[0];
      for (const reader of together) if (joins(reader)) join(reader, host);
    }
  }
  return joined;
}
