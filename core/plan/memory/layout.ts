/**
 * Assigns memory to the buffers of a plan: a slot that several values share, or memory of their own.
 *
 * @module
 */

import { isKeptCopy } from "../kept_copy.ts";
import type { Buffer, DoubleBuffer, PlannedBuffer, Unit } from "../types.ts";
import { type LaunchText, type Lifetimes, writeInPlace } from "./in_place.ts";
import { type Lifetime, planMemory } from "./slots.ts";

/** What decides about the memory of a plan. */
export interface LayoutOptions {
  readonly buffers: readonly Buffer[];
  /** Buffers whose values must exist at the end. */
  readonly roots: readonly number[];
  /** Buffers that outlive the step: values that the plan keeps of its prefix. */
  readonly kept: ReadonlySet<number>;
  /** Buffers that are swapped with the buffer of a leaf after each step, and that buffer. */
  readonly swapped: ReadonlyMap<number, number>;
}

/** The memory of a plan. */
export interface Layout {
  /** What each unit launches: some write over an input. */
  readonly texts: readonly LaunchText[];
  readonly buffers: readonly PlannedBuffer[];
  /** Bytes of the shared slots. */
  readonly slots: readonly number[];
  readonly doubleBuffers: readonly DoubleBuffer[];
}

/**
 * Gives every buffer its memory.
 *
 * @param order Units as they run
 * @param options Buffers, and which of them live longer than their launches
 * @returns The layout
 */
export function layoutMemory(
  order: readonly Unit[],
  { buffers, roots, kept, swapped }: LayoutOptions,
): Layout {
  const bytesOf = temporaryBytes(buffers, kept);
  const lifetimes = lifetimesOf(order, roots);
  const { launches: texts, shares } = writeInPlace(order, { ...lifetimes, bytesOf });
  const values = mergeShared(buffers.keys().filter((b) => bytesOf(b) > 0 && lifetimes.first.has(b)), {
    buffers,
    lifetimes,
    shares,
    swapped,
  });
  const copies = new Set(buffers.keys().filter((b) => isCopy(buffers[b])));
  for (const b of copies) values.set(b, { bytes: buffers[b].bytes, first: 0, last: order.length });
  const { slots, sizes } = planMemory([...values.values()]);
  const slotOf = new Map([...values.keys()].map((b, i) => [b, slots[i]]));
  const slot = (b: number): number => slotOf.get(shares.get(b) ?? b) ?? -1;
  return {
    texts,
    buffers: buffers.map(({ source, bytes }, b) => ({
      bytes,
      source: (copies.has(b) ? null : source) ??
        (kept.has(b) ? { kind: "kept" } : { kind: "slot", slot: slot(b) }),
    })),
    slots: sizes,
    doubleBuffers: [...swapped].map(([b, leaf]) => ({ slot: slot(b), leaf })),
  };
}

/** Whether a buffer holds a copy of a weight that outlives the step. */
function isCopy({ source }: Buffer): boolean {
  return source?.kind === "leaf" && isKeptCopy(source.node);
}

/** Bytes that a buffer takes while its value lives; 0 for buffers that live as long as the plan. */
export function temporaryBytes(
  buffers: readonly Buffer[],
  kept: ReadonlySet<number> = new Set(),
): (buffer: number) => number {
  return (b) => buffers[b].source === null && !kept.has(b) ? buffers[b].bytes : 0;
}

/** First and last launch that binds each buffer; roots live to the end. */
function lifetimesOf(order: readonly Unit[], roots: readonly number[]): Lifetimes {
  const first = new Map<number, number>(), last = new Map<number, number>();
  order.forEach(({ bindings }, at) => {
    for (const b of bindings) {
      if (!first.has(b)) first.set(b, at);
      last.set(b, at);
    }
  });
  for (const b of roots) last.set(b, order.length);
  return { first, last };
}

/** Lifetimes of values: buffers that share memory are one value, which lives from the first to the last of them. */
function mergeShared(
  temporary: Iterable<number>,
  { buffers, lifetimes: { first, last }, shares, swapped }: Pick<LayoutOptions, "buffers" | "swapped"> & {
    readonly lifetimes: Lifetimes;
    readonly shares: ReadonlyMap<number, number>;
  },
): Map<number, Lifetime> {
  const values = new Map<number, Lifetime>();
  for (const b of temporary) {
    const holder = shares.get(b) ?? b, known = values.get(holder);
    values.set(holder, {
      bytes: buffers[b].bytes,
      // A swapped buffer holds the leaf's value in every other step, from its start.
      first: swapped.has(b) ? 0 : Math.min(first.get(b)!, known?.first ?? Infinity),
      last: Math.max(last.get(b)!, known?.last ?? -1),
    });
  }
  return values;
}
