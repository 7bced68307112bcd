/**
 * A graph with the facts that fusion needs of each node, as lists by its place in the order: large graphs are walked often, and
 * lists are read far faster than maps by node.
 *
 * @module
 */

import { topological } from "../../graph.ts";
import type { Tensor } from "../../tensor.ts";
import { isElement, isSource, isSumEach } from "../predicates.ts";
import type { Fusion, Known } from "../types.ts";

/** A graph, and facts of each node by place. */
export interface FusionGraph extends Pick<Fusion, "roots" | "order"> {
  readonly places: ReadonlyMap<Tensor, number>;
  readonly inputs: readonly (readonly number[])[];
  /** Who reads each node, each reader once. */
  readonly readers: readonly (readonly number[])[];
  readonly elements: readonly boolean[];
  readonly sources: readonly boolean[];
  /** Which nodes sum each of many tensors. */
  readonly sums: readonly boolean[];
  /** The shape of each node as text. */
  readonly shapes: readonly string[];
  /** Elementwise nodes that lead to nothing but sums and roots. */
  readonly ending: readonly boolean[];
  /** Those of them that lead to nothing but sums. */
  readonly summing: readonly boolean[];
}

/**
 * Lists the nodes of a graph, and who reads each.
 *
 * @param roots Values that must exist in memory
 * @returns The graph
 */
export function fusionGraph(roots: readonly Tensor[]): FusionGraph {
  const order = topological(roots), made = new Set(roots), places = new Map<Tensor, number>();
  order.forEach((node, at) => places.set(node, at));
  const inputs = order.map((node) => node.inputs.map((input) => places.get(input)!));
  const readers = order.map((): number[] => []);
  inputs.forEach((all, node) => {
    // A node that reads another one twice is one reader.
    for (const input of all) if (readers[input].at(-1) !== node) readers[input].push(node);
  });
  const elements = order.map(isElement), sources = order.map(isSource), sums = order.map(isSumEach);
  const ending = order.map(() => false), summing = order.map(() => false);
  for (let node = order.length - 1; node >= 0; node--) {
    const after = readers[node];
    ending[node] = elements[node] && after.every((reader) => sums[reader] || ending[reader]);
    summing[node] = ending[node] && after.length > 0 && !made.has(order[node]) &&
      after.every((reader) => sums[reader] || summing[reader]);
  }
  const shapes = order.map(({ shape }) => shape.join());
  return { roots: made, order, places, inputs, readers, elements, sources, sums, shapes, ending, summing };
}

/**
 * What is known of each node of a graph, from what is known of places.
 *
 * @param graph The graph
 * @param of From a place to what is known
 * @returns The same by node; undefined for nodes of other graphs
 */
export function knownOf<T>({ places }: FusionGraph, of: (place: number) => T): Known<T> {
  return {
    get(node) {
      const place = places.get(node);
      return place === undefined ? undefined : of(place);
    },
  };
}
