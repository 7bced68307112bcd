/**
 * Launches that would wait for each other.
 *
 * @module
 */

import type { Tensor } from "../../tensor.ts";
import { baseOf } from "../alias.ts";
import { isElement, isSource, isSumEach } from "../predicates.ts";
import type { Cluster, FuseOptions, Fusion } from "../types.ts";

/** What one launch computes: a cluster, or a node of another kind. */
type Unit = Cluster | Tensor;

/** The groups of a graph. */
type Groups = Pick<Fusion, "order" | "clusters" | "clusterOf" | "stored">;

/**
 * Finds launches that wait for each other: for a value, or to overwrite a leaf that another one reads.
 *
 * @param groups The groups
 * @param options Which nodes overwrite a leaf; groups that share a launch, none when absent
 * @returns The groups of each cycle, of those that share a launch the first one
 */
export function cycles(
  groups: Groups,
  { targets, batches = [] }: Pick<FuseOptions, "targets"> & {
    readonly batches?: readonly (readonly Cluster[])[];
  },
): Cluster[][] {
  const before = launchedTogether(dependencies(groups, targets), batches);
  const found: Cluster[][] = [], done = new Set<Unit>(), open = new Set<Unit>();
  for (const start of before.keys()) {
    if (done.has(start)) continue;
    const path = [{ unit: start, rest: before.get(start)!.values() }];
    open.add(start);
    while (path.length > 0) {
      const { unit, rest } = path.at(-1)!, { value: next } = rest.next();
      if (next === undefined) {
        path.pop();
        open.delete(unit);
        done.add(unit);
      } else if (open.has(next)) {
        const units = [...open];
        found.push(units.slice(units.indexOf(next)).filter(isCluster));
      } else if (!done.has(next)) {
        path.push({ unit: next, rest: before.get(next)!.values() });
        open.add(next);
      }
    }
  }
  return found;
}

/** The same dependencies, where the first group of a batch stands for all of it. */
function launchedTogether(
  before: ReadonlyMap<Unit, ReadonlySet<Unit>>,
  batches: readonly (readonly Cluster[])[],
): ReadonlyMap<Unit, ReadonlySet<Unit>> {
  if (batches.length === 0) return before;
  const first = new Map<Unit, Unit>(batches.flatMap((batch) => batch.map((cluster) => [cluster, batch[0]])));
  const result = new Map<Unit, Set<Unit>>();
  for (const [unit, needed] of before) {
    const own = first.get(unit) ?? unit, known = result.get(own) ?? new Set();
    for (const other of needed) known.add(first.get(other) ?? other);
    known.delete(own);
    result.set(own, known);
  }
  return result;
}

function isCluster(unit: Unit): unit is Cluster {
  return !("op" in unit);
}

/** The units that must run before each unit. */
function dependencies(
  { order, clusters, clusterOf, stored }: Groups,
  targets: ReadonlyMap<Tensor, Tensor>,
): ReadonlyMap<Unit, ReadonlySet<Unit>> {
  const before = new Map<Unit, Set<Unit>>(), readersOf = new Map<Tensor, Unit[]>();
  for (const leaf of targets.values()) readersOf.set(leaf, []);
  const read = (unit: Unit, results: readonly Tensor[]): void => {
    const own = new Set(results), seen = new Set<Tensor>(), needed = new Set<Unit>();
    const open = results.toReversed();
    while (open.length > 0) {
      const node = open.pop()!;
      if (seen.has(node)) continue;
      seen.add(node);
      const base = baseOf(node);
      if (own.has(node) || (isElement(base) && !stored.has(base))) open.push(...base.inputs.toReversed());
      else if (isSource(base)) readersOf.get(base)?.push(unit);
      else needed.add(clusterOf.get(base) ?? base);
    }
    before.set(unit, needed);
  };
  for (const cluster of clusters) read(cluster, [...cluster.stored, ...cluster.summed]);
  for (const node of order) {
    if (isElement(node) || isSource(node) || baseOf(node) !== node) continue;
    if (isSumEach(node)) before.set(node, new Set(node.inputs.map((input) => clusterOf.get(input)!)));
    else read(node, [node]);
  }
  for (const [node, leaf] of targets) {
    const unit = clusterOf.get(node) ?? node;
    for (const reader of readersOf.get(leaf)!) if (reader !== unit) before.get(unit)!.add(reader);
  }
  return before;
}
