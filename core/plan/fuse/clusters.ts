/**
 * From groups of elementwise nodes to clusters: which of their values reach memory, and which are summed.
 *
 * @module
 */

import type { Tensor } from "../../tensor.ts";
import { isReduction, isSumEach } from "../predicates.ts";
import type { Cluster, Fusion } from "../types.ts";
import { type FusionGraph, knownOf } from "./graph.ts";
import { COSTLY, reading, type Recomputing, recomputing } from "./recompute.ts";

/** Which nodes share a kernel, by their places. */
interface Grouped {
  /** Names the group of an elementwise node. */
  readonly groupOf: (node: number) => number;
  /** Nodes that are in memory whoever reads them. */
  readonly cuts: ReadonlySet<Tensor>;
}

/**
 * Makes the clusters of some groups.
 *
 * @param graph The graph
 * @param options Groups, and who reads each node
 * @returns Clusters and stored values
 */
export function clustersOf(
  graph: FusionGraph,
  { readers, ...grouped }: Grouped & Pick<Fusion, "readers">,
): Pick<Fusion, "clusters" | "clusterOf" | "stored"> {
  const { order, elements } = graph, stored = storedValues(graph, grouped);
  const made = new Array<Cluster>(order.length);
  const groups = Map.groupBy(order.keys().filter((at) => elements[at]), grouped.groupOf).values();
  const clusters = [...groups].map((all) => {
    const cluster = clusterOfNodes(all.map((at) => order[at]), { stored, readers });
    for (const at of all) made[at] = cluster;
    return cluster;
  });
  return {
    clusters: clusters.filter(({ stored, summed }) => stored.length + summed.length > 0),
    clusterOf: knownOf(graph, (at) => made[at]),
    stored,
  };
}

/** The cluster of some nodes. */
export function clusterOfNodes(
  nodes: readonly Tensor[],
  { stored, readers }: Pick<Fusion, "stored" | "readers">,
): Cluster {
  return {
    nodes,
    stored: nodes.filter((n) => stored.has(n)),
    summed: nodes.filter((n) => readers.get(n)!.some(isSumEach)),
  };
}

/** Values that a kernel reads from memory, and those that other groups need and that are costly to compute again. */
function storedValues(
  { roots, order, inputs, readers, elements, sums }: FusionGraph,
  { groupOf, cuts }: Grouped,
): Set<Tensor> {
  const cost: Recomputing[] = [], reductions = order.map(isReduction), stored = new Set<Tensor>();
  order.forEach((node, at) => {
    if (!elements[at]) return;
    cost[at] = recomputing(node, (i) => cost[inputs[at][i]]);
    const after = readers[at], group = groupOf(at);
    const must = roots.has(node) || cuts.has(node) ||
      after.some((r) => !elements[r] && !reductions[r] && !sums[r]);
    const shared = after.some((r) => elements[r] ? groupOf(r) !== group : reductions[r] && after.length > 1);
    if (!must && !(shared && cost[at] === COSTLY)) return;
    stored.add(node);
    cost[at] = reading(node);
  });
  return stored;
}
