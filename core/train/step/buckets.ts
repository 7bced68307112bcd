/**
 * Which sums of a step lie beside each other, and which bytes of them go to the other ranks at a time. A function of their sizes
 * alone, so that all ranks have the same.
 *
 * @module
 */

import { bytesOf } from "../../plan/storage.ts";
import type { Gpu } from "../../runtime/device.ts";
import { staysQueued } from "../../runtime/readback.ts";
import type { Spec } from "../../spec.ts";
import type { Path } from "../../tree.ts";

/** Bytes of a bucket at most and at least, and how many there are where their size lies between: what is one bucket hides nothing. */
const LARGEST = 2 ** 25, LEAST = 2 ** 18, COUNT = 8;
/** Bytes of a bucket at most where there is time, which every device has room for in a buffer: the fewer, the less the host has to do. */
const WHOLE = 2 ** 28;
/**
 * Buckets that are on their way at a time. Where other work may wait for the device while a buffer is mapped, the whole backward pass
 * of a model of 100 M is submitted at once, so that neither the device nor the ranks wait for each other's pace; elsewhere one is read,
 * one is summed, and the device fills the next.
 */
export const IN_FLIGHT = { queued: 16, other: 4 } as const;
/** Any device can bind a buffer from a multiple of this on. */
const ALIGNMENT = 256;

/** Sums that share a buffer. */
export interface Arena {
  readonly bytes: number;
  /** First byte of each sum. */
  readonly offsets: ReadonlyMap<Path, number>;
}

/** Some bytes of a buffer. */
export interface Piece<T> {
  readonly of: T;
  readonly from: number;
  readonly bytes: number;
}

/**
 * Lays sums out in buffers of about one bucket. What is larger than a bucket has a buffer of its own.
 *
 * @param sums Specs by path, in the order in which they are ready
 * @returns The buffers, in that order
 */
export function arenasOf(sums: ReadonlyMap<Path, Spec>): Arena[] {
  const most = bucketBytes([...sums.values()].map((spec) => ({ bytes: bytesOf(spec) })));
  const arenas: { bytes: number; readonly offsets: Map<Path, number> }[] = [];
  for (const [path, spec] of sums) {
    const bytes = bytesOf(spec), last = arenas.at(-1);
    const from = Math.ceil((last?.bytes ?? 0) / ALIGNMENT) * ALIGNMENT;
    if (last !== undefined && from + bytes <= most) {
      last.offsets.set(path, from);
      last.bytes = from + bytes;
    } else arenas.push({ bytes, offsets: new Map([[path, 0]]) });
  }
  return arenas;
}

/**
 * Cuts sums into buckets. One that is not larger than a bucket is in one bucket.
 *
 * @param sums What lies in one buffer each, in the order in which it is ready
 * @param options `whole`: whether there are as few as may be, not such that one is read while another is summed; false when absent
 * @returns Pieces of each bucket, in order
 */
export function bucketsOf<T extends { readonly bytes: number }>(
  sums: readonly T[],
  { whole = false }: { readonly whole?: boolean } = {},
): Piece<T>[][] {
  const buckets: Piece<T>[][] = [], most = whole ? WHOLE : bucketBytes(sums);
  let room = 0;
  for (const of of sums) {
    for (let from = 0; from < of.bytes; from += most) {
      const bytes = Math.min(most, of.bytes - from), piece = { of, from, bytes };
      if (bytes > room) {
        buckets.push([piece]);
        room = most - bytes;
      } else {
        buckets.at(-1)!.push(piece);
        room -= bytes;
      }
    }
  }
  return buckets;
}

/**
 * The buffers through which buckets go to the host and back.
 *
 * @param gpu The device
 * @param buckets Pieces of each
 * @param options `whole`: whether each bucket has one of its own, not only those on their way; false when absent
 * @returns How many there are, and the bytes of each
 */
export function stagingOf(
  gpu: Gpu,
  buckets: readonly (readonly Pick<Piece<unknown>, "bytes">[])[],
  { whole = false }: { readonly whole?: boolean } = {},
): { readonly count: number; readonly bytes: number } {
  const most = whole ? Infinity : IN_FLIGHT[staysQueued(gpu) ? "queued" : "other"];
  const sizes = buckets.map(totalBytes), all = sizes.reduce((a, b) => a + b, 0);
  // Of one size while there is much to exchange, so that a freeze leaves them as they are.
  const bytes = !whole && all >= COUNT * LARGEST ? LARGEST : Math.max(0, ...sizes);
  return { count: Math.min(most, buckets.length), bytes };
}

/**
 * Bytes that an exchange of sums takes on the device.
 *
 * @param gpu The device
 * @param sums Bytes of each
 * @param options `whole`: whether all of them have memory of the host at a time; false when absent
 * @returns Bytes of its buffers
 */
export function exchangeBytes(
  gpu: Gpu,
  sums: readonly { readonly bytes: number }[],
  { whole = false }: { readonly whole?: boolean } = {},
): number {
  const { count, bytes } = stagingOf(gpu, bucketsOf(sums, { whole }), { whole });
  return (staysQueued(gpu) ? 2 : 1) * count * bytes;
}

/** Bytes of all. */
export function totalBytes(all: readonly { readonly bytes: number }[]): number {
  return all.reduce((n, { bytes }) => n + bytes, 0);
}

function bucketBytes(sums: readonly { readonly bytes: number }[]): number {
  const share = Math.ceil(totalBytes(sums) / COUNT / ALIGNMENT) * ALIGNMENT;
  return Math.min(LARGEST, Math.max(LEAST, share));
}
