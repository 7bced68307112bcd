/**
 * Copies buffers from the device to the host.
 *
 * @module
 */

import { denoVersion } from "../host/runtime_version.ts";
import { allocate, destroyBuffer } from "./buffers.ts";
import type { Gpu } from "./device.ts";
import { submit } from "./pipelines.ts";
import { isDenos, turn, turning } from "./turns.ts";

/** A buffer that the host can map. */
interface Staging {
  readonly buffer: GPUBuffer;
  /** Whether a read waits for it. */
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

/** Largest staging buffer in bytes, so that reading a model needs no second copy of it. */
const STAGING = 64 * 2 ** 20;

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
interface Piece extends Source {
  readonly from: number;
}

/** A source as pieces that staging buffers can hold: all but the last are equal. */
function piecesOf({ buffer, bytes, from = 0 }: Source, most: number): Piece[] {
  return Array.from({ length: Math.max(1, Math.ceil(bytes / most)) }, (_, i) => ({
    buffer,
    from: from + i * most,
    bytes: Math.min(most, bytes - i * most),
  }));
}

async function readPieces(gpu: Gpu, sources: readonly Piece[]): Promise<ArrayBuffer[]> {
  gpu.check();
  const results: ArrayBuffer[] = [];
  for (let from = 0; from < sources.length;) {
    const offsets: number[] = [];
    let bytes = 0, to = from;
    do {
      offsets.push(bytes);
      bytes += Math.ceil(sources[to++].bytes / 4) * 4;
    } while (to < sources.length && bytes + sources[to].bytes <= STAGING);
    const part = sources.slice(from, to);
    const target = stagingFor(gpu, bytes), { buffer } = target;
    submit(
      gpu,
      (encoder) =>
        part.forEach((s, i) =>
          encoder.copyBufferToBuffer(s.buffer, s.from, buffer, offsets[i], Math.ceil(s.bytes / 4) * 4)
        ),
    );
    target.busy = true;
    try {
      const range = await rangeOf(gpu, target, bytes);
      part.forEach((s, i) => results.push(range.slice(offsets[i], offsets[i] + s.bytes)));
      buffer.unmap();
    } finally {
      target.busy = false;
      if (staging.get(gpu) !== target) destroyBuffer(buffer);
    }
    gpu.check();
    from = to;
  }
  return results;
}

/** Maps a staging buffer, without the sleep of Deno 2.9 when possible. */
async function rangeOf(gpu: Gpu, target: Staging, bytes: number): Promise<ArrayBuffer> {
  const { buffer } = target;
  let mapping: Promise<unknown> | null = null;
  if (mayMapInCall(gpu, target)) {
    await turn();
    mapping = buffer.mapAsync(1, 0, bytes);
    mapping.catch(() => {});
    try {
      return buffer.getMappedRange(0, bytes);
    } catch {
      // The device is gone, which the promise tells.
    }
  }
  await mapped(gpu, mapping ?? buffer.mapAsync(1, 0, bytes));
  target.awaited = true;
  return buffer.getMappedRange(0, bytes);
}

/**
 * Waits until a buffer is mapped.
 *
 * @throws {DeviceLostError} When the device is gone
 */
export async function mapped(gpu: Gpu, mapping: Promise<unknown>): Promise<void> {
  try {
    await turning(gpu, mapping);
  } catch (error) {
    // The loss of the device is reported one task after the errors that follow from it.
    await new Promise((resolve) => setTimeout(resolve));
    gpu.check();
    throw error;
  }
}

/** The staging buffer of a device, replaced by a larger one when needed; a new one while it is busy or above 64 MiB. */
function stagingFor(gpu: Gpu, bytes: number): Staging {
  const known = staging.get(gpu);
  const kept = bytes <= STAGING && !known?.busy;
  if (known !== undefined && kept && known.buffer.size >= bytes) return known;
  const buffer = allocate(gpu, { label: "staging", size: Math.max(bytes, 65536), usage: 0x1 | 0x8 });
  const made = { buffer, busy: false, awaited: false };
  if (kept) {
    if (known !== undefined) destroyBuffer(known.buffer);
    staging.set(gpu, made);
  }
  return made;
}
