/**
 * Batches matrix products of equal sizes into one launch, as one of them alone does not fill a GPU: query, key and value of
 * a layer, and the gradients of their weights.
 *
 * @module
 */

import type { Target } from "../../kernel_call.ts";
import type { Tensor } from "../../tensor.ts";
import { baseOf, readersOf } from "../alias.ts";
import { isElement } from "../predicates.ts";
import { batchKey } from "../rewrite/sum_products.ts";
import type { Fusion, IsHalf } from "../types.ts";

/** Most products of a launch; each binds three buffers. */
const MOST = 6;

/**
 * Finds products that share an operand and do not depend on each other. Products with an epilogue stay on their own.
 *
 * @param fusion The graph
 * @param options `targets`: nodes that overwrite a leaf; `target`: the device; `isHalf`: how values are stored
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
  /** Whether nothing depends on the cluster of a reader, so that it may run at any later time. */
  const isLast = (reader: Tensor): boolean => {
    const cluster = clusterOf.get(reader);
    return cluster !== undefined && cluster.summed.length === 0 &&
      cluster.nodes.every((node) => readers.get(node)!.every((after) => clusterOf.get(after) === cluster));
  };
  const overwriter = new Map([...targets].map(([node, leaf]) => [leaf, node]));
  /** The level at which another cluster overwrites an operand of a node. */
  const overwritten = (node: Tensor): number =>
    Math.min(...node.inputs.map((input) => {
      const by = overwriter.get(baseOf(input));
      return by === undefined || clusterOf.get(by) === clusterOf.get(node) ? Infinity : level.get(by)!;
    }));
  /** Whether the cluster of a reader may become the epilogue of the product that it reads. */
  const mayBeEpilogue = (reader: Tensor): boolean => {
    if (!isElement(reader)) return false;
    const { summed, stored } = clusterOf.get(reader)!;
    return summed.length === 0 && !stored.some((node) => targets.has(node));
  };
  const keyOf = (node: Tensor): string | null => batchKey(node, isHalf);
  /** The last level at which a product can be computed. */
  const latest = new Map<Tensor, number>();
  const candidates = order.filter((node) => {
    if (keyOf(node) === null || targets.has(node)) return false;
    const after = readersOf(node, readers);
    if (after.some(mayBeEpilogue)) return false;
    const ends = after.map((reader) =>
      isLast(reader) ? Math.min(...clusterOf.get(reader)!.nodes.map(overwritten)) : level.get(reader)! - 1
    );
    latest.set(node, Math.min(overwritten(node), ...ends));
    return true;
  });
  const taken = new Set<Tensor>();
  const most = Math.min(MOST, Math.floor(target.maxBindings / 3));
  // A batch runs at the level of its last product. Its readers lie above that level and can only move up, and what
  // overwrites an operand lies no lower. So no launch comes to wait for itself.
  for (const side of [0, 1]) {
    const bySource = Map.groupBy(candidates, (node) => baseOf(node.inputs[side]));
    for (const readersOfOne of bySource.values()) {
      for (const alike of Map.groupBy(readersOfOne.filter((n) => !taken.has(n)), keyOf).values()) {
        let group: Tensor[] = [];
        for (const node of alike) {
          const wider = [...group, node];
          const independent = Math.max(...wider.map((n) => level.get(n)!)) <=
            Math.min(...wider.map((n) => latest.get(n)!));
          if (independent && wider.length <= most) group = wider;
        }
        if (group.length < 2) continue;
        groups.set(group[0], group);
        for (const node of group) taken.add(node);
      }
    }
  }
  return groups;
}
