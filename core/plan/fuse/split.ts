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

/** What splitting decides. */
interface Splitting extends FuseOptions {
  readonly fusion: Fusion;
  /** Elementwise nodes that are in memory; grows. */
  readonly stored: Set<Tensor>;
  /** Groups that overwrite leaves in launches of their own; grows. */
  readonly apart: Set<Cluster>;
  readonly keyOf: LoadKey;
  /** Groups that are as they were found, and fit. */
  readonly fitting: ReadonlySet<Cluster>;
}

/**
 * Splits groups until each fits a launch, and until no launches wait for each other.
 *
 * A group becomes a run of launches in the order of its values, so that no other group changes. Where one value alone, or
 * a reduction, reads too many buffers, some of what it is computed from is stored.
 *
 * @param grouping Groups, some of which bind too many buffers
 * @param options Which nodes overwrite a leaf, and what the device is
 * @returns The same groups, or smaller ones
 */
export function splitClusters({ fusion, full, waiting }: Grouping, options: FuseOptions): Fusion {
  const crowded = new Set(full), all = [...new Set(fusion.clusterOf.values())];
  const splitting: Splitting = {
    ...options,
    fusion,
    stored: new Set(fusion.stored),
    apart: new Set(),
    keyOf: loadKeys(),
    fitting: new Set(all.filter((cluster) => !crowded.has(cluster))),
  };
  const { stored, apart } = splitting;
  for (let round = 0;; round++) {
    const before = stored.size;
    storeForReductions(splitting);
    const runs = runsOf(all, splitting, round);
    if (stored.size > before) continue;
    const changed = stored.size > fusion.stored.size || runs.some(({ length }) => length > 1);
    const result = changed ? withRuns(fusion, { runs, stored }) : fusion;
    const blocked = changed ? cycles(result, options) : waiting;
    const decided = stored.size + apart.size;
    for (const cluster of blocked.flat()) separateUpdates(cluster, splitting);
    if (stored.size + apart.size === decided) return result;
  }
}

/** Stores what a reduction reads where it would read too many buffers. */
function storeForReductions({ fusion: { order }, target, stored, keyOf }: Splitting): void {
  for (const { op, inputs: [x], ...node } of order) {
    if (!isReduction({ op, inputs: [x], ...node }) || !isElement(x) || stored.has(x)) continue;
    const keys = new Set<number>();
    walkComputed([x], {
      isComputed: (node) => !stored.has(node),
      seen: new Set(),
      visit(node, computed) {
        const key = computed ? null : keyOf(node);
        if (key !== null) keys.add(key);
      },
    });
    const most = target.maxBindings - 1;
    if (keys.size > most) storeOperands([x], { stored, keyOf, most: () => most });
  }
}

/** The launches of each group, as lists of nodes. Stores what they share or cannot compute alone: then they are not final. */
function runsOf(all: readonly Cluster[], splitting: Splitting, round: number): (readonly Tensor[])[][] {
  const { fusion, target, stored, apart, fitting } = splitting, before = stored.size;
  const untouched = before === fusion.stored.size;
  let costly: ReadonlySet<Tensor> | undefined = round < MOST_ROUNDS ? undefined : new Set();
  return all.map((old) => {
    const cluster = untouched ? old : clusterOfNodes(old.nodes, { ...fusion, stored });
    const fits = untouched ? fitting.has(old) : !isCrowded(cluster, splitting);
    if (fits && !apart.has(old) && summingBytes(cluster.summed.length) <= target.workgroupBytes) {
      return [cluster.nodes];
    }
    const sums = new Set(cluster.summed);
    storeOperands([...new Set([...cluster.stored, ...cluster.summed])], {
      ...splitting,
      // The node itself and its partial sums are outputs.
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
  const level = new Map([...fusion.level].map(([node, own]) => [node, own * scale]));
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
 * Makes a group that waits for itself through others wait no more: it overwrites leaves in launches of their own; and where
 * it does already, those do no more than copy what is in memory.
 */
function separateUpdates({ nodes, stored: written, summed }: Cluster, splitting: Splitting): void {
  const { fusion, targets, stored, apart } = splitting;
  const updates = written.filter((node) => targets.has(node));
  if (updates.length === 0) return;
  const group = fusion.clusterOf.get(nodes[0])!;
  if (!apart.has(group) && written.length + summed.length > updates.length) return void apart.add(group);
  for (const { inputs } of updates) for (const x of inputs) if (isElement(x)) stored.add(x);
}
