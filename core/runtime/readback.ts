/**
 * Copies buffers from the device to the host.
 *
 * @module
 */

import { denoVersion } from "../host/runtime_version.ts";
import { allocate, createBuffer, destroyBuffer } from "./buffers.ts";
import type { Gpu } from "./device.ts";
import { submit } from "./pipelines.ts";
import { isDenos, turn, turning } from "./turns.ts";

const USAGE = 0x1 | 0x8; // MAP_READ, COPY_DST

/** A buffer that the host can map. */
export interface Staging {
  readonly buffer: GPUBuffer;
  /** Whether somebody waits for it, or works on what it holds. */
  busy: boolean;
  /** Whether it was mapped and awaited once. */
  awaited: boolean;
}

const staging = new WeakMap<Gpu, Staging>();
/**
 * Deno 2.9 maps a buffer within the call of `mapAsync` and then sleeps for 10 ms. A buffer that was awaited once before can
 * be read without that sleep. Another version of Deno might end the process, so it is not tried there, and another
 * implementation, such as Dawn's, maps a buffer later and says so at once.
 */
function mayMapInCall(gpu: Gpu, { awaited }: Staging): boolean {
  return awaited && isDenos(gpu) && denoVersion()!.startsWith("2.9.");
}

/** Whether other work may wait for the device while a buffer is mapped: Deno's own mapping waits for all that is submitted. */
export function staysQueued(gpu: Gpu): boolean {
  return !isDenos(gpu);
}

/** Largest staging buffer in bytes, so that reading a model needs no second copy of it. */
export const STAGING = 64 * 2 ** 20;

/** Most bytes of a staging buffer. */
const LARGEST = 2 ** 30;

/** A buffer, and how many bytes of it to read. */
export interface Source {
  readonly buffer: GPUBuffer;
  readonly bytes: number;
  /** The first byte, a multiple of 4; 0 when absent. */
  readonly from?: number;
}

/**
 * Copies buffers to the host. In Deno this waits for all queued work, once for every 64 MiB. It takes 10 ms more for a new
 * staging buffer, for a buffer above 64 MiB, and in versions other than 2.9.
 *
 * @param gpu The device
 * @param sources What to read
 * @param options `most`: bytes of the largest staging buffer, a multiple of 4; 1 GiB when absent
 * @returns A copy of the bytes of each
 * @throws {DeviceLostError} When the device is gone or closed
 */
export async function readBuffers(
  gpu: Gpu,
  sources: readonly Source[],
  { most = LARGEST }: { readonly most?: number } = {},
): Promise<ArrayBuffer[]> {
  const pieces = sources.map((source) => piecesOf(source, most)),
    values = (await readPieces(gpu, pieces.flat())).values();
  return sources.map(({ bytes }, i) => {
    const [{ bytes: first }] = pieces[i], begin = values.next().value!;
    if (pieces[i].length === 1) return begin;
    const all = new Uint8Array(bytes);
    all.set(new Uint8Array(begin));
    for (let at = first; at < bytes; at += first) all.set(new Uint8Array(values.next().value!), at);
    return all.buffer;
  });
}

/** Some bytes of a buffer. */
export interface Piece extends Source {
  readonly from: number;
}

/** A source as pieces that staging buffers can hold: all but the last are equal. */
export function piecesOf({ buffer, bytes, from = 0 }: Source, most: number): Piece[] {
  return Array.from({ length: Math.max(1, Math.ceil(bytes / most)) }, (_, i) => ({
    buffer,
    from: from + i * most,
    bytes: Math.min(most, bytes - i * most),
  }));
}

async function readPieces(gpu: Gpu, sources: readonly Piece[]): Promise<ArrayBuffer[]> {
  gpu.check();
  const results: ArrayBuffer[] = [];
  for (const { part, offsets, bytes } of together(sources)) {
    const target = stagingFor(gpu, bytes), { buffer } = target;
    stage(gpu, { part, offsets, buffer });
    target.busy = true;
    try {
      const range = await mapped(gpu, target, bytes);
      part.forEach((s, i) => results.push(range.slice(offsets[i], offsets[i] + s.bytes)));
      buffer.unmap();
    } finally {
      target.busy = false;
      if (staging.get(gpu) !== target) destroyBuffer(buffer);
    }
    gpu.check();
  }
  return results;
}

/** Pieces that are staged together. */
export interface Group<P extends Piece> {
  readonly part: readonly P[];
  /** Where each begins. */
  readonly offsets: readonly number[];
  /** In all. */
  readonly bytes: number;
}

/** Packs pieces in order into groups that a staging buffer holds; a larger piece is alone. */
export function together<P extends Piece>(pieces: readonly P[]): Group<P>[] {
  const groups: Group<P>[] = [];
  for (let from = 0; from < pieces.length;) {
    const offsets: number[] = [];
    let bytes = 0, to = from;
    do {
      offsets.push(bytes);
      bytes += Math.ceil(pieces[to++].bytes / 4) * 4;
    } while (to < pieces.length && bytes + pieces[to].bytes <= STAGING);
    groups.push({ part: pieces.slice(from, to), offsets, bytes });
    from = to;
  }
  return groups;
}

/** Copies pieces to a staging buffer. */
export function stage(
  gpu: Gpu,
  { part, offsets, buffer }: Pick<Group<Piece>, "part" | "offsets"> & { readonly buffer: GPUBuffer },
): void {
  submit(
    gpu,
    (encoder) =>
      part.forEach((s, i) =>
        encoder.copyBufferToBuffer(s.buffer, s.from, buffer, offsets[i], Math.ceil(s.bytes / 4) * 4)
      ),
  );
}

/** A buffer that the host can map, where nothing says whether there is room. */
export const stagingOf = (gpu: Gpu, bytes: number): GPUBuffer =>
  allocate(gpu, { label: "staging", size: Math.max(bytes, 65536), usage: USAGE });

/**
 * Maps a buffer, without the sleep of Deno 2.9 when possible.
 *
 * @param gpu The device
 * @param target The buffer, which nobody maps
 * @param bytes How many bytes to map
 * @param first How many of them to return, a multiple of 4; all when absent
 * @returns The first bytes, until the buffer is unmapped. They may be changed; whether the buffer then has the change is not said
 * @throws {DeviceLostError} When the device is gone or closed
 */
export async function mapped(
  gpu: Gpu,
  target: Staging,
  bytes: number,
  first: number = bytes,
): Promise<ArrayBuffer> {
  const { buffer } = target;
  let mapping: Promise<unknown> | null = null;
  if (mayMapInCall(gpu, target)) {
    await turn();
    mapping = buffer.mapAsync(1, 0, bytes);
    mapping.catch(() => {});
    try {
      return buffer.getMappedRange(0, first);
    } catch {
      // The device is gone, which the promise tells.
    }
  }
  await mappingOf(gpu, mapping ?? buffer.mapAsync(1, 0, bytes));
  target.awaited = true;
  return buffer.getMappedRange(0, first);
}

/**
 * Waits until a buffer is mapped.
 *
 * @throws {DeviceLostError} When the device is gone
 */
export async function mappingOf(gpu: Gpu, mapping: Promise<unknown>): Promise<void> {
  try {
    await turning(gpu, mapping);
  } catch (error) {
    await throwLoss(gpu, error);
  }
}

/**
 * Throws the loss of the device, where that is why something failed, and what it failed with otherwise.
 *
 * @throws {DeviceLostError} When the device is gone
 */
export async function throwLoss(gpu: Gpu, error: unknown): Promise<never> {
  // The loss of the device is reported one task after the errors that follow from it.
  await new Promise((resolve) => setTimeout(resolve));
  gpu.check();
  throw error;
}

/**
 * Makes a buffer that the host can map. {@link checkAllocations} tells whether there was room.
 *
 * @param gpu The device
 * @param bytes Its size
 * @param options `host`: whether it is counted as memory of the host; that of the device when absent
 * @returns The buffer
 */
export function newStaging(gpu: Gpu, bytes: number, options: { readonly host?: boolean } = {}): Staging {
  return {
    buffer: createBuffer(gpu, { label: "staging", bytes, usage: USAGE, ...options }),
    busy: false,
    awaited: false,
  };
}

/** The staging buffer of a device, replaced by a larger one when needed; a new one while it is busy or above 64 MiB. */
function stagingFor(gpu: Gpu, bytes: number): Staging {
  const known = staging.get(gpu);
  const kept = bytes <= STAGING && !known?.busy;
  if (known !== undefined && kept && known.buffer.size >= bytes) return known;
  const buffer = stagingOf(gpu, bytes), made = { buffer, busy: false, awaited: false };
  if (kept) {
    if (known !== undefined) destroyBuffer(known.buffer);
    staging.set(gpu, made);
  }
  return made;
}
