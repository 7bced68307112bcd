/**
 * From groups of elementwise nodes to clusters: which of their values reach memory, and which are summed.
 *
 * @module
 */

import type { Tensor } from "../../tensor.ts";
import { isElement, isReduction, isSumEach } from "../predicates.ts";
import type { Cluster, Fusion } from "../types.ts";
import type { FusionGraph } from "./levels.ts";
import { COSTLY, reading, type Recomputing, recomputing } from "./recompute.ts";

/** Names the group of an elementwise node. */
export type GroupOf = (node: Tensor) => Tensor;

/**
 * Makes the clusters of some groups.
 *
 * @param graph The graph
 * @param options Groups, and values that must be in memory whoever reads them
 * @returns Clusters and stored values
 */
export function clustersOf(
  graph: FusionGraph,
  options: { readonly groupOf: GroupOf; readonly cuts: ReadonlySet<Tensor> },
): Pick<Fusion, "clusters" | "clusterOf" | "stored"> {
  const { order, readers } = graph, { groupOf } = options;
  const stored = storedValues(graph, options);
  const members = new Map<Tensor, Tensor[]>();
  for (const node of order) {
    if (!isElement(node)) continue;
    const group = groupOf(node);
    if (members.has(group)) members.get(group)!.push(node);
    else members.set(group, [node]);
  }
  const clusters: Cluster[] = [], clusterOf = new Map<Tensor, Cluster>();
  for (const nodes of members.values()) {
    const cluster = clusterOfNodes(nodes, { stored, readers });
    for (const node of nodes) clusterOf.set(node, cluster);
    if (cluster.stored.length + cluster.summed.length > 0) clusters.push(cluster);
  }
  return { clusters, clusterOf, stored };
}

/** The cluster of some nodes. */
export function clusterOfNodes(
  nodes: readonly Tensor[],
  { stored, readers }: Pick<Fusion, "stored" | "readers">,
): Cluster {
  return {
    nodes,
    stored: nodes.filter((n) => stored.has(n)),
    summed: nodes.filter((n) => readers.get(n)!.some((r) => isSumEach(r))),
  };
}

/** Values that a kernel reads from memory, and those that other groups need and that are costly to compute again. */
function storedValues(
  { roots, order, readers }: FusionGraph,
  { groupOf, cuts }: { readonly groupOf: GroupOf; readonly cuts: ReadonlySet<Tensor> },
): Set<Tensor> {
  const cost = new Map<Tensor, Recomputing>();
  const stored = new Set<Tensor>();
  for (const node of order) {
    if (!isElement(node)) continue;
    cost.set(node, recomputing(node, cost));
    const after = readers.get(node)!;
    const must = roots.has(node) || cuts.has(node) ||
      after.some((r) => !isElement(r) && !isReduction(r) && !isSumEach(r));
    const shared = after.some((r) =>
      (isElement(r) && groupOf(r) !== groupOf(node)) || (isReduction(r) && after.length > 1)
    );
    if (must || (shared && cost.get(node) === COSTLY)) {
      stored.add(node);
      cost.set(node, reading(node));
    }
  }
  return stored;
}
