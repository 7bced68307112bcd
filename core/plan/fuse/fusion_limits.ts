/**
 * Groups of elementwise nodes that cannot be launches as they are.
 *
 * @module
 */

import type { Tensor } from "../../tensor.ts";
import { baseOf } from "../alias.ts";
import { bufferTable } from "../buffers.ts";
import { isElement, isSource, isSumEach } from "../predicates.ts";
import type { Cluster, FuseOptions, Fusion } from "../types.ts";
import { express } from "./codegen.ts";

/** What decides about conflicts. */
type Options = Pick<FuseOptions, "targets" | "maxBindings">;

/**
 * Finds the groups that bind more buffers than a launch can.
 *
 * @param fusion The groups
 * @param options Which nodes overwrite a leaf, and how many buffers a launch can bind
 * @returns Some of the groups
 */
export function crowded(fusion: Fusion, options: Options): Cluster[] {
  return fusion.clusters.filter((cluster) =>
    launchOf(cluster, fusion, options).bindings > options.maxBindings
  );
}

/**
 * Finds where to cut a group: after the value that saves what reads it most buffers when it is in memory.
 *
 * @param cluster A group that binds too many buffers
 * @param fusion All groups
 * @param options Which nodes overwrite a leaf, and how many buffers a launch can bind
 * @returns The value, or undefined where none saves a buffer
 */
export function cutOf(cluster: Cluster, fusion: Fusion, options: Options): Tensor | undefined {
  const { stored, summed } = cluster, { bindings, computed } = launchOf(cluster, fusion, options);
  let least = bindings, best: Tensor | undefined;
  for (const node of computed) {
    if (stored.includes(node) || summed.includes(node)) continue;
    const rest = launchOf(cluster, { stored: new Set([...fusion.stored, node]) }, options);
    const own = launchOf({ nodes: [node], stored: [node], summed: [] }, fusion, options);
    if (rest.bindings >= least || own.bindings > options.maxBindings) continue;
    least = rest.bindings;
    best = node;
  }
  return best;
}

/** How many buffers a group binds in a launch of its own, and the elementwise nodes that it computes. */
function launchOf(
  { nodes, stored, summed }: Cluster,
  among: Pick<Fusion, "stored">,
  { targets }: Options,
): { readonly bindings: number; readonly computed: readonly Tensor[] } {
  const table = bufferTable({ targets, isHalf: () => false });
  const { expression, loads, stepOf } = express([...stored, ...summed], {
    stored: among.stored,
    isHalf: () => false,
    bufferOf: (node) => table.bufferOf(node),
    scalarOf: (node) => table.scalarOf(node),
    shape: nodes[0].shape,
  });
  const fresh = stored.filter((node) => !targets.has(node) || !loads.includes(table.bufferOf(node)));
  return {
    bindings: loads.length + fresh.length + (summed.length > 0 ? 1 : 0),
    computed: [...stepOf].flatMap(([node, step]) => expression.steps[step].kind === "compute" ? [node] : []),
  };
}

/**
 * Finds launches that wait for each other: for a value, or to overwrite a leaf that another one reads.
 *
 * @param fusion The groups
 * @param options Which nodes overwrite a leaf
 * @returns The groups of each cycle; what shares a launch later is not known here
 */
export function cycles(
  { order, clusters, clusterOf, stored }: Fusion,
  { targets }: Pick<Options, "targets">,
): Cluster[][] {
  type Unit = Cluster | Tensor;
  const before = new Map<Unit, Set<Unit>>(), readersOf = new Map<Tensor, Unit[]>();
  for (const leaf of targets.values()) readersOf.set(leaf, []);
  const read = (unit: Unit, results: readonly Tensor[]): void => {
    const own = new Set(results), seen = new Set<Tensor>(), needed = new Set<Unit>();
    const visit = (node: Tensor): void => {
      if (seen.has(node)) return;
      seen.add(node);
      const base = baseOf(node);
      if (own.has(node) || (isElement(base) && !stored.has(base))) base.inputs.forEach(visit);
      else if (isSource(base)) readersOf.get(base)?.push(unit);
      else needed.add(clusterOf.get(base) ?? base);
    };
    results.forEach(visit);
    before.set(unit, needed);
  };
  for (const cluster of clusters) read(cluster, [...cluster.stored, ...cluster.summed]);
  for (const node of order) {
    if (isElement(node) || isSource(node) || baseOf(node) !== node) continue;
    if (isSumEach(node)) before.set(node, new Set(node.inputs.map((input) => clusterOf.get(input)!)));
    else read(node, [node]);
  }
  for (const [node, leaf] of targets) {
    const unit = clusterOf.get(node)!;
    for (const reader of readersOf.get(leaf)!) if (reader !== unit) before.get(unit)!.add(reader);
  }

  const found: Cluster[][] = [], done = new Set<Unit>(), open = new Set<Unit>();
  const isCluster = (unit: Unit): unit is Cluster => !("op" in unit);
  const visit = (unit: Unit): void => {
    if (done.has(unit)) return;
    if (open.has(unit)) {
      const path = [...open];
      found.push(path.slice(path.indexOf(unit)).filter(isCluster));
      return;
    }
    open.add(unit);
    before.get(unit)!.forEach(visit);
    open.delete(unit);
    done.add(unit);
  };
  for (const unit of before.keys()) visit(unit);
  return found;
}
