/**
 * Which nodes share a kernel, and which values reach memory.
 *
 * @module
 */

import type { Tensor } from "../../tensor.ts";
import type { FuseOptions, Fusion } from "../types.ts";
import { cutOf } from "./fusion_limits.ts";
import { fusionGraph } from "./graph.ts";
import { groupNodes } from "./groups.ts";
import { splitClusters } from "./split.ts";

/** Rounds of cuts that save bindings; groups that are still too large after these are split. */
const MOST_CUTS = 32;

/**
 * Groups the elementwise nodes of a graph into kernels.
 *
 * The groups are as large as levels allow. A group that binds too many buffers is cut at a value that saves bindings when
 * it is in memory, and the graph is grouped again. What no such cut makes small enough is split into several launches.
 *
 * @param roots Values that must exist in memory
 * @param options Which nodes overwrite a leaf, and what the device is
 * @returns The groups; a group binds too many buffers only where one of its nodes alone does
 */
export function fuse(roots: readonly Tensor[], options: FuseOptions): Fusion {
  const graph = fusionGraph(roots), cuts = new Set<Tensor>();
  for (let round = 0;; round++) {
    const grouping = groupNodes(graph, { ...options, cuts }), { fusion, crowded } = grouping;
    const found = round < MOST_CUTS
      ? crowded.flatMap((cluster) => cutOf(cluster, fusion, options) ?? [])
      : [];
    if (found.length === 0) return splitClusters(grouping, options);
    for (const node of found) cuts.add(node);
  }
}
