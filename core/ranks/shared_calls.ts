/**
 * Calls of ranks through memory that those of a host share.
 *
 * To add up, values are cut into a slice for each rank of the host. Each rank adds up its slice over all, in the order of the ranks,
 * so that each sum has the same bits on all of them, and on each repeat. Where there are several hosts, the ranks that have the same
 * slice add it up across them by MPI: each host sends its bytes once, whatever the number of its ranks.
 *
 * @module
 */

import { type MappedMemory, valuesIn } from "../host/mapped_memory.ts";
import type { LaneJob } from "../host/lanes.ts";
import type { SharedWindow } from "./shared_window.ts";

/** Bytes from which shared memory is faster than a message. */
export const LEAST_SHARED = 2 ** 20;
/** Bytes that processors write at a time. */
const LINE = 64;

/**
 * Adds up the values of all ranks.
 *
 * @param window The window of each host
 * @param options As many f32 values on each rank; the memory of the sums, which may be that of the values; what adds up values of the
 * ranks with the same slice across hosts, in place
 */
export async function sharedSum(
  window: SharedWindow,
  { data, sums, across }: {
    readonly data: MappedMemory;
    readonly sums: MappedMemory;
    readonly across: (slice: Float32Array, group: bigint) => Promise<void>;
  },
): Promise<void> {
  const { rank, size } = window.local, { begins, lengths } = slicesOf(data.bytes, size);
  const from = window.address(data.first), to = window.address(sums.first), own = begins[rank];
  const run = (job: Omit<LaneJob, "lengths">): Promise<void> => window.run("sum", { lengths, ...job });
  const take = (of: (slot: number) => number): LaneJob["takes"] =>
    begins.map((begin, slot) => ({ of: of(slot), slot, to: to + begin }));
  // Each has its own values of its slice at hand.
  const puts = begins.map((begin, slot) => ({ slot, from: from + begin })).filter(({ slot }) =>
    slot !== rank
  );
  const sum = { of: summedAt(rank), from: from + own };
  if (window.across === null) return await run({ puts, sum, takes: take(summedAt) });
  await run({ puts, sum: { ...sum, into: from + own }, takes: [] });
  await across(valuesIn(data).subarray(own / 4, (own + lengths[rank]) / 4), window.across);
  await run({ puts: [{ slot: rank, from: from + own }], takes: take((slot) => slot) });
}

/**
 * Sends a part to each rank of the one host, and takes one of each.
 *
 * @param window The window
 * @param data Parts for all ranks, of equal size everywhere
 * @param result What becomes the parts of all ranks
 */
export async function sharedAllToAll(
  window: SharedWindow,
  { data, result }: { readonly data: Uint8Array; readonly result: Uint8Array },
): Promise<void> {
  const { rank, size } = window.local, part = data.length / size;
  const from = window.address(data),
    to = window.address(result),
    slots = Array.from({ length: size }, (_, r) => r);
  await window.run("allToAll", {
    lengths: slots.map(() => part),
    puts: slots.map((slot) => ({ slot, from: from + slot * part })),
    takes: slots.map((of) => ({ of, slot: rank, to: to + of * part })),
  });
}

/**
 * Brings the bytes of all ranks of the one host to all.
 *
 * @param window The window
 * @param options Bytes of this rank; how many each has, and where they go in the result
 */
export async function sharedGather(
  window: SharedWindow,
  { mine, result, lengths, offsets }: {
    readonly mine: Uint8Array;
    readonly result: Uint8Array;
    readonly lengths: readonly number[];
    readonly offsets: readonly number[];
  },
): Promise<void> {
  const { rank } = window.local, to = window.address(result);
  await window.run("gather", {
    lengths,
    puts: [{ slot: rank, from: window.address(mine) }],
    takes: offsets.map((offset, of) => ({ of, slot: of, to: to + offset })),
  });
}

/**
 * Copies the bytes of one rank of the one host to all others.
 *
 * @param window The window
 * @param data The bytes, in place
 * @param root The rank that has them
 */
export async function sharedBroadcast(
  window: SharedWindow,
  { data, root }: { readonly data: Uint8Array; readonly root: number },
): Promise<void> {
  const { rank, size } = window.local,
    { begins, lengths } = slicesOf(data.length, size),
    at = window.address(data);
  await window.run("broadcast", {
    lengths,
    puts: rank === root ? begins.map((begin, slot) => ({ slot, from: at + begin })) : [],
    takes: rank === root ? [] : begins.map((begin, slot) => ({ of: root, slot, to: at + begin })),
  });
}

/**
 * The rank in whose part a slice is added up: the first that puts its values there. The order is that of ranks for slice 0, too, whose
 * own values come second: a sum of two has the same bits in both orders.
 */
const summedAt = (slice: number): number => slice === 0 ? 1 : 0;

/** Cuts bytes into slices of whole lines, the last of which may be shorter or empty. */
function slicesOf(
  bytes: number,
  size: number,
): { readonly begins: readonly number[]; readonly lengths: readonly number[] } {
  const slice = Math.ceil(bytes / size / LINE) * LINE;
  const begins = Array.from({ length: size }, (_, r) => Math.min(r * slice, bytes));
  return { begins, lengths: begins.map((begin) => Math.min(slice, bytes - begin)) };
}
