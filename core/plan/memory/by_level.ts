/**
 * Makes launches that could run at the same time neighbours.
 *
 * @module
 */

import type { Buffer, Unit } from "../types.ts";
import { predecessors } from "./order.ts";

/** Units that only move so many bytes in each buffer, and that no product needs, may run so many levels late. */
const LITTLE = 2 ** 20, DELAY = 64;
/**
 * Orders units by how many others must run before: units that could run at the same time become neighbours. A unit that reads
 * nothing that others write runs right before the first one that reads it.
 *
 * @param order Units in an order in which they can run
 * @param options Buffers; `prompt`: whether no update waits for its like, false when absent
 * @returns The same units in another such order
 */
export function byLevel(
  order: readonly Unit[],
  { buffers, prompt = false }: { readonly buffers: readonly Buffer[]; readonly prompt?: boolean },
): readonly Unit[] {
  const before = predecessors(order), level = order.map(() => 0), needed = neededLater(order, before);
  const delay = prompt ? 0 : DELAY;
  before.forEach((others, at) => {
    for (const other of others) level[at] = Math.max(level[at], level[other] + 1);
    // What it reads can then wait for its like.
    if (!needed[at] && order[at].bindings.every((b) => buffers[b].bytes <= LITTLE)) level[at] += delay;
  });
  const least = order.map(() => Infinity);
  before.forEach((others, at) => {
    for (const other of others) least[other] = Math.min(least[other], level[at]);
  });
  before.forEach((others, at) => {
    if (others.length === 0 && least[at] < Infinity) level[at] = least[at] - 1;
  });
  const places = order.map((_, at) => at);
  // Products come last in a level: what they read may then wait for its like.
  const isLate = (at: number): number => order[at].matmulFlops > 0 ? 1 : 0;
  places.sort((a, b) => level[a] - level[b] || isLate(a) - isLate(b) || a - b);
  return places.map((at) => order[at]);
}

/**
 * Whether a product needs what each unit computes. Other units end in updates of leaves, and which of them there are depends
 * on what is frozen. They share launches only with others of the same kernel, and products with those that read the same
 * operand: else each frozen set would need other kernels.
 */
export function neededLater(
  order: readonly Unit[],
  before: readonly (readonly number[])[],
): readonly boolean[] {
  const needed = order.map(() => false);
  for (let at = order.length - 1; at >= 0; at--) {
    if (!needed[at] && order[at].matmulFlops === 0) continue;
    for (const other of before[at]) needed[other] = true;
  }
  return needed;
}
