/**
 * Splits groups that one launch cannot compute into several launches.
 *
 * @module
 */

import { summingBytes } from "../../../kernels/elementwise.ts";
import type { Tensor } from "../../tensor.ts";
import { isElement, isReduction } from "../predicates.ts";
import type { Cluster, FuseOptions, Fusion } from "../types.ts";
import { clusterOfNodes } from "./clusters.ts";
import { cycles } from "./cycles.ts";
import { isCrowded } from "./fusion_limits.ts";
import type { Grouping } from "./groups.ts";
import { type LoadKey, loadKeys, walkComputed } from "./loads.ts";
import { costlyValues } from "./recompute.ts";
import { runOf } from "./runs.ts";
import { storeOperands } from "./store_operands.ts";

/** Rounds in which a costly value that several launches of a group need is stored; later ones compute it again. */
const MOST_ROUNDS = 8;

/** What is being split, and what is decided so far. */
interface Splitting extends FuseOptions {
  readonly fusion: Fusion;
  /** All groups, also those that have nothing to write yet. */
  readonly all: readonly Cluster[];
  /** Groups that bind too many buffers as they were found. */
  readonly crowded: ReadonlySet<Cluster>;
  /** Elementwise nodes that are in memory; grows. */
  readonly stored: Set<Tensor>;
  /** Groups whose updates of leaves run in launches of their own; grows. */
  readonly detached: Set<Cluster>;
  readonly keyOf: LoadKey;
}

/**
 * Splits groups until each fits a launch, and until no launches wait for each other.
 *
 * A group becomes a run of launches in the order of its values, so that no other group changes. Where one value alone, or
 * a reduction, reads too many buffers, some of its operands are stored.
 *
 * @param grouping Groups, some of which bind too many buffers
 * @param options Which nodes overwrite a leaf, and what the device is
 * @returns The same groups, or smaller ones
 */
export function splitClusters({ fusion, crowded, blocked }: Grouping, options: FuseOptions): Fusion {
  const stored = new Set(fusion.stored), detached = new Set<Cluster>();
  const splitting: Splitting = {
    ...options,
    fusion,
    all: [...new Set(fusion.order.filter(isElement).map((node) => fusion.clusterOf.get(node)!))],
    crowded: new Set(crowded),
    stored,
    detached,
    keyOf: loadKeys(),
  };
  for (let round = 0;; round++) {
    const before = stored.size;
    storeForReductions(splitting);
    const runs = runsOf(splitting, round);
    // What is in memory decides what fits.
    if (stored.size > before) continue;
    const changed = stored.size > fusion.stored.size || runs.some(({ length }) => length > 1);
    const result = changed ? withRuns(fusion, { runs, stored }) : fusion;
    const decided = stored.size + detached.size;
    for (const cluster of (changed ? cycles(result, options) : blocked).flat()) {
      separateUpdates(cluster, splitting);
    }
    if (stored.size + detached.size === decided) return result;
  }
}

/** Stores operands of what a reduction reads, where that needs too many buffers. */
function storeForReductions({ fusion: { order }, target, stored, keyOf }: Splitting): void {
  const most = target.maxBindings - 1;
  for (const node of order) {
    if (!isReduction(node)) continue;
    const [x] = node.inputs, keys = new Set<number>();
    if (!isElement(x) || stored.has(x)) continue;
    walkComputed([x], {
      isComputed: (value) => !stored.has(value),
      seen: new Set(),
      visit(value, computed) {
        const key = computed ? null : keyOf(value);
        if (key !== null) keys.add(key);
      },
    });
    if (keys.size > most) storeOperands([x], { stored, keyOf, most: () => most });
  }
}

/**
 * The launches of each group, as lists of nodes. It stores costly values that several launches need, and operands of values
 * that need too many; when it does, the launches are not final.
 */
function runsOf(splitting: Splitting, round: number): (readonly Tensor[])[][] {
  const { fusion, all, crowded, target, stored, detached } = splitting;
  const unchanged = stored.size === fusion.stored.size;
  let costly: ReadonlySet<Tensor> | undefined = round < MOST_ROUNDS ? undefined : new Set();
  return all.map((group) => {
    const cluster = unchanged ? group : clusterOfNodes(group.nodes, { ...fusion, stored });
    const fits = unchanged ? !crowded.has(group) : !isCrowded(cluster, splitting);
    if (fits && !detached.has(group) && summingBytes(cluster.summed.length) <= target.workgroupBytes) {
      return [cluster.nodes];
    }
    const sums = new Set(cluster.summed);
    storeOperands([...new Set([...cluster.stored, ...cluster.summed])], {
      ...splitting,
      // Outputs are the node itself, and partial sums.
      most: (node) => target.maxBindings - (stored.has(node) && sums.has(node) ? 2 : 1),
    });
    costly ??= costlyValues(fusion.order, stored);
    const { launches, shared } = runOf(cluster, { ...splitting, costly });
    for (const node of shared) stored.add(node);
    return [...launches];
  });
}

/** Groups with other launches. Levels grow from one launch of a group to the next. */
function withRuns(
  fusion: Fusion,
  { runs, stored }: {
    readonly runs: readonly (readonly (readonly Tensor[])[])[];
    readonly stored: ReadonlySet<Tensor>;
  },
): Fusion {
  const scale = runs.reduce((most, { length }) => Math.max(most, length), 1);
  const level = new Map(fusion.order.map((node) => [node, fusion.level.get(node)! * scale]));
  const clusters: Cluster[] = [], clusterOf = new Map<Tensor, Cluster>();
  for (const run of runs) {
    run.forEach((nodes, place) => {
      const cluster = clusterOfNodes(nodes, { ...fusion, stored });
      for (const node of nodes) {
        clusterOf.set(node, cluster);
        level.set(node, level.get(node)! + place);
      }
      if (cluster.stored.length + cluster.summed.length > 0) clusters.push(cluster);
    });
  }
  return { ...fusion, level, clusters, clusterOf, stored };
}

/**
 * Breaks a cycle of launches through a group. The first time, updates of leaves get launches of their own. If they have
 * them already, what they read is stored, so that they only copy it.
 */
function separateUpdates({ nodes, stored: written, summed }: Cluster, splitting: Splitting): void {
  const { fusion, targets, stored, detached } = splitting;
  const updates = written.filter((node) => targets.has(node));
  if (updates.length === 0) return;
  const group = fusion.clusterOf.get(nodes[0])!;
  if (!detached.has(group) && written.length + summed.length > updates.length) detached.add(group);
  else for (const { inputs } of updates) for (const x of inputs) if (isElement(x)) stored.add(x);
}
