/**
 * Products of the same sizes that one launch computes: a GPU that one of them does not fill, several do.
 *
 * Query, key and value of a layer are such, and their gradients by weights.
 *
 * @module
 */

import type { Target, Tensor } from "../../tensor.ts";
import { baseOf, readersOf } from "../alias.ts";
import { isElement } from "../predicates.ts";
import { batchKey } from "../rewrite/sum_products.ts";
import type { Fusion, IsHalf } from "../types.ts";

/** Products that share a launch bind three buffers each. */
const MOST = 6;

/**
 * Finds products that share an operand and do not need each other, each of which would be a launch of its own.
 *
 * @param fusion The graph
 * @param options `targets`: nodes that overwrite a leaf; what the device is; how values are stored
 * @returns Groups of two products or more, by their first one
 */
export function batchMatmuls(
  fusion: Fusion,
  { targets, target, isHalf }: {
    readonly targets: ReadonlyMap<Tensor, Tensor>;
    readonly target: Target;
    readonly isHalf: IsHalf;
  },
): ReadonlyMap<Tensor, readonly Tensor[]> {
  const groups = new Map<Tensor, readonly Tensor[]>();
  if (target.software) return groups;
  const { order, level, clusterOf, readers } = fusion;
  /** Whether nothing waits for a kernel: it may run as late as one likes. */
  const isLast = (reader: Tensor): boolean => {
    const cluster = clusterOf.get(reader);
    return cluster !== undefined && cluster.summed.length === 0 &&
      cluster.nodes.every((node) => readers.get(node)!.every((after) => clusterOf.get(after) === cluster));
  };
  const overwriter = new Map([...targets].map(([node, leaf]) => [leaf, node]));
  /** The level at which others overwrite what a node reads. */
  const overwritten = (node: Tensor): number =>
    Math.min(...node.inputs.map((input) => {
      const by = overwriter.get(baseOf(input));
      return by === undefined || clusterOf.get(by) === clusterOf.get(node) ? Infinity : level.get(by)!;
    }));
  /** Whether a kernel that reads a product may become the end of its own. */
  const mayBeEnd = (reader: Tensor): boolean => {
    if (!isElement(reader)) return false;
    const { summed, stored } = clusterOf.get(reader)!;
    return summed.length === 0 && !stored.some((node) => targets.has(node));
  };
  const stored = (node: Tensor): string | null => batchKey(node, isHalf);
  /** The last level at which a product can be computed. */
  const latest = new Map<Tensor, number>();
  const candidates = order.filter((node) => {
    if (stored(node) === null || targets.has(node)) return false;
    const after = readersOf(node, readers);
    if (after.some(mayBeEnd)) return false;
    const ends = after.map((reader) =>
      isLast(reader) ? Math.min(...clusterOf.get(reader)!.nodes.map(overwritten)) : level.get(reader)! - 1
    );
    latest.set(node, Math.min(overwritten(node), ...ends));
    return true;
  });
  const taken = new Set<Tensor>();
  const most = Math.min(MOST, Math.floor(target.maxBindings / 3));
  // What is computed together is computed at the level of the last one. Readers lie above it as they are, and can only
  // move up themselves, and what overwrites an operand lies no lower, so no launch comes to wait for itself.
  for (const side of [0, 1]) {
    const bySource = Map.groupBy(candidates, (node) => baseOf(node.inputs[side]));
    for (const readersOfOne of bySource.values()) {
      for (const alike of Map.groupBy(readersOfOne.filter((n) => !taken.has(n)), stored).values()) {
        let group: Tensor[] = [];
        for (const node of alike) {
          const wider = [...group, node];
          const together = Math.max(...wider.map((n) => level.get(n)!)) <=
            Math.min(...wider.map((n) => latest.get(n)!));
          if (together && wider.length <= most) group = wider;
        }
        if (group.length < 2) continue;
        groups.set(group[0], group);
        for (const node of group) taken.add(node);
      }
    }
  }
  return groups;
}
