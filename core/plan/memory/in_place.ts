/**
 * Lets launches write over an input that nobody reads later.
 *
 * @module
 */

import type { Unit } from "../types.ts";

/** First and last launch that needs the value of each buffer. */
export interface Lifetimes {
  readonly first: ReadonlyMap<number, number>;
  readonly last: ReadonlyMap<number, number>;
}

/** The kernel of a launch, and its buffers in binding order. */
export type LaunchText = Pick<Unit, "kernel" | "bindings">;

/**
 * Lets units write over inputs whose last reader they are.
 *
 * @param order Units as they run
 * @param options Lifetimes; `bytesOf`: bytes of a buffer for an intermediate value, 0 for others
 * @returns Launches, and for each buffer that shares the memory of another one, the first buffer in that memory
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
