/**
 * Stores operands of values that need more inputs than a launch can bind.
 *
 * @module
 */

import type { Tensor } from "../../tensor.ts";
import { isElement } from "../predicates.ts";
import { type LoadKey, walkComputed } from "./loads.ts";

/**
 * Adds elementwise nodes to those in memory until a launch could compute each of some nodes alone.
 *
 * It goes through all that the nodes are computed from, inputs first. Where a node needs too many inputs, its operand that
 * needs most of them is stored.
 *
 * @param results Elementwise nodes, inputs first
 * @param options `stored`: elementwise nodes in memory, which grows; `keyOf`: the binding of a load; `most`: how many inputs
 * the launch of a node may bind
 */
export function storeOperands(
  results: readonly Tensor[],
  { stored, keyOf, most }: {
    readonly stored: Set<Tensor>;
    readonly keyOf: LoadKey;
    most(node: Tensor): number;
  },
): void {
  /** What a launch must load to compute each node. */
  const needs = new Map<Tensor, ReadonlySet<number>>();
  const loadsOf = (node: Tensor): ReadonlySet<number> => {
    const key = keyOf(node);
    return new Set(key === null ? [] : [key]);
  };
  const isComputed = (node: Tensor): boolean => !stored.has(node);
  const visit = (node: Tensor, computed: boolean): void => {
    if (!computed) return void needs.set(node, loadsOf(node));
    const all = (): ReadonlySet<number> => {
      const union = new Set<number>();
      for (const input of node.inputs) {
        for (const key of stored.has(input) ? loadsOf(input) : needs.get(input)!) union.add(key);
      }
      return union;
    };
    let own = all();
    while (own.size > most(node)) {
      let largest: Tensor | undefined, size = 1;
      for (const input of node.inputs) {
        if (!isElement(input) || stored.has(input) || needs.get(input)!.size <= size) continue;
        largest = input;
        size = needs.get(input)!.size;
      }
      // The op itself has too many inputs.
      if (largest === undefined) break;
      stored.add(largest);
      own = all();
    }
    needs.set(node, own);
  };
  walkComputed(results, { isComputed, seen: new Set(), visit });
}
