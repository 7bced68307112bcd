/**
 * Launches that write over an input that nobody reads later.
 *
 * @module
 */

import type { Unit } from "../types.ts";

/** First and last unit that needs each buffer's value. */
export interface Lifetimes {
  readonly first: ReadonlyMap<number, number>;
  readonly last: ReadonlyMap<number, number>;
}

/** What a unit launches. */
export type LaunchText = Pick<Unit, "kernel" | "bindings">;

/**
 * Makes units write over inputs that die in them.
 *
 * @param order Units as they run
 * @param options Lifetimes; `bytesOf`: bytes of a buffer for an intermediate value, 0 for others
 * @returns What to launch, and for each written buffer that shares the memory of an input: the first such input
 */
export function writeInPlace(
  order: readonly Unit[],
  options: Lifetimes & { bytesOf(buffer: number): number },
): { readonly launches: readonly LaunchText[]; readonly shares: ReadonlyMap<number, number> } {
  const { first, last, bytesOf } = options;
  const shares = new Map<number, number>();
  const launches = order.map((unit, at): LaunchText => {
    const { inPlace, reads, writes: [write] } = unit;
    if (inPlace === undefined) return unit;
    const { input, kernel } = inPlace;
    const dies = last.get(input) === at && first.get(write) === at && bytesOf(input) > 0;
    const twice = reads.indexOf(input) !== reads.lastIndexOf(input);
    if (!dies || twice || bytesOf(input) !== bytesOf(write)) return unit;
    shares.set(write, shares.get(input) ?? input);
    return { kernel: kernel(), bindings: [...reads.filter((b) => b !== input), input] };
  });
  return { launches, shares };
}
