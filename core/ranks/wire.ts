/**
 * Averages parameters over ranks in fewer bits than f32 has: each rank sends how far its parameters have come since the last exchange.
 *
 * Each rank gets a part of the changes of all, and sends the mean of it to all. Both are coded on the device, so that only codes are
 * read from it and written to it. What codes leave of a value is kept, and sent with the next one.
 *
 * @module
 */

import {
  packChange,
  packMean,
  unpackChange,
  WIRE_BLOCK,
  WIRE_WORDS,
  type WireCode,
} from "../../kernels/wire.ts";
import type { KernelText } from "../kernel_call.ts";
import { checkAllocations, createBuffer, destroyBuffer, writeValues } from "../runtime/buffers.ts";
import type { Gpu } from "../runtime/device.ts";
import { bindKernel, submit } from "../runtime/pipelines.ts";
import { type KeptUpload, keptUpload } from "../runtime/kept_upload.ts";
import { readBuffers, staysQueued } from "../runtime/readback.ts";
import { submitPass } from "../runtime/replay.ts";
import { turning } from "../runtime/turns.ts";
import type { Ranks } from "../train/ranks.ts";

/** Values that are sent at a time, while others are packed and unpacked. */
const BUCKET = 2 ** 22;
/** Buckets on their way at a time: one is packed, of one the mean is made, and one is unpacked. */
const DEPTH = 3;

/** A parameter and what belongs to it, f32. */
export interface Exchanged {
  /** How many values. */
  readonly items: number;
  /** What it is after the exchange before; that of now after this one, if the mean is all that becomes of it. */
  readonly start: GPUBuffer;
  /** What it is now; the mean of all ranks after the exchange. */
  readonly now: GPUBuffer;
  /** What codes left of earlier changes. */
  readonly residual: GPUBuffer;
}

/** Averages parameters. */
export interface WireMean {
  /** Replaces parameters by their means over all ranks. All ranks get the same bits. */
  average(exchanged: readonly Exchanged[]): Promise<void>;
  /** Frees its buffers. */
  destroy(): void;
}

/** Buffers of a bucket. */
interface Slot extends Readonly<Record<"start" | "now" | "residual" | "words" | "mean", GPUBuffer>> {
  /** For what comes back; null where `writeBuffer` does it. */
  readonly upload: KeptUpload | null;
}

/** A piece of a parameter in a bucket. */
interface Piece {
  readonly of: Exchanged;
  /** Bytes before it in the parameter, in the bucket, and its own. */
  readonly from: number;
  readonly at: number;
  readonly bytes: number;
}

/** What goes at a time. */
interface Bucket {
  readonly pieces: readonly Piece[];
  /** Blocks, as many for each rank. */
  readonly blocks: number;
}

/** How values are averaged. */
export interface WireSettings {
  readonly ranks: Ranks;
  readonly code: WireCode;
  /** Whether the mean is the next start. */
  readonly advances: boolean;
  /** Values that are sent at a time; 2^22 when absent. */
  readonly bucket?: number;
}

/**
 * Bytes that a rank gives to others in an exchange, and those of its buffers.
 *
 * @param gpu The device
 * @param items Values
 * @param options The code, and how many ranks
 * @returns Bytes
 */
export function wireCost(
  gpu: Gpu,
  items: number,
  { code, size }: { readonly code: WireCode; readonly size: number },
): { readonly sent: number; readonly memory: number } {
  const words = 4 * WIRE_WORDS[code];
  let sent = 0;
  for (let left = items; left > 0; left -= BUCKET) {
    const blocks = blocksOf(Math.min(left, BUCKET), size);
    sent += words * (blocks + blocks / size);
  }
  const uses = staysQueued(gpu) ? 2 : 1;
  const largest = blocksOf(Math.min(items, BUCKET), size), count = Math.min(DEPTH, Math.ceil(items / BUCKET));
  return { sent, memory: count * largest * (3 * 4 * WIRE_BLOCK + uses * words + words / size) };
}

/** Blocks for some values, as many for each rank. */
function blocksOf(items: number, size: number): number {
  return size * Math.ceil(items / (size * WIRE_BLOCK));
}

/**
 * Makes what averages parameters.
 *
 * @param gpu The device
 * @param settings The ranks and the code
 * @returns It; its buffers are made when they are needed
 */
export function wireMean(gpu: Gpu, settings: WireSettings): WireMean {
  const { ranks: { size }, bucket = BUCKET } = settings, slots: Slot[] = [];
  let blocks = 0;
  const free = (): void => slots.splice(0).forEach(freeSlot);
  return {
    async average(exchanged) {
      const buckets = bucketsOf(exchanged, { size, bucket }),
        largest = Math.max(0, ...buckets.map((b) => b.blocks));
      const count = Math.min(DEPTH, buckets.length);
      // What thaws may need larger ones, and what freezes leaves memory to others.
      if (blocks !== largest) free();
      blocks = largest;
      slots.splice(count).forEach(freeSlot);
      while (slots.length < count) {
        slots.push(newSlot(gpu, { ...settings, blocks }));
      }
      try {
        await checkAllocations(gpu);
      } catch (error) {
        free();
        throw error;
      }
      await exchangeAll(gpu, { settings, slots, buckets });
    },
    destroy: free,
  };
}

function newSlot(
  gpu: Gpu,
  { ranks: { size }, code, blocks }: WireSettings & { readonly blocks: number },
): Slot {
  const make = (words: number): GPUBuffer => createBuffer(gpu, { label: "exchange", bytes: 4 * words });
  const [start, now, residual] = [0, 1, 2].map(() => make(blocks * WIRE_BLOCK));
  const words = blocks * WIRE_WORDS[code], upload = staysQueued(gpu) ? keptUpload(gpu, 4 * words) : null;
  return { start, now, residual, words: make(words), mean: make(words / size), upload };
}

function freeSlot({ upload, ...buffers }: Slot): void {
  Object.values(buffers).forEach(destroyBuffer);
  upload?.destroy();
}

/** Writes words of other ranks to where kernels read them. */
async function putWords(gpu: Gpu, { words, upload }: Slot, bytes: Uint8Array): Promise<void> {
  if (upload === null) return writeValues(gpu, words, wordsOf(bytes));
  await upload.ready();
  new Uint8Array(upload.first(bytes.length)).set(bytes);
  upload.send((encoder, from) => encoder.copyBufferToBuffer(from, 0, words, 0, bytes.length));
}

/** Values one after the other, cut into buckets. */
function bucketsOf(
  exchanged: readonly Exchanged[],
  { size, bucket }: { readonly size: number; readonly bucket: number },
): Bucket[] {
  const buckets: Bucket[] = [];
  let pieces: Piece[] = [], filled = 0;
  const close = (): void => {
    if (filled > 0) buckets.push({ pieces, blocks: blocksOf(filled / 4, size) });
    [pieces, filled] = [[], 0];
  };
  for (const of of exchanged) {
    for (let from = 0; from < 4 * of.items;) {
      const bytes = Math.min(4 * of.items - from, 4 * bucket - filled);
      pieces.push({ of, from, at: filled, bytes });
      [from, filled] = [from + bytes, filled + bytes];
      if (filled === 4 * bucket) close();
    }
  }
  close();
  return buckets;
}

/** Buckets follow each other in stages. All ranks make their calls in the same order, as it is that of this text. */
async function exchangeAll(
  gpu: Gpu,
  { settings, slots, buckets }: {
    readonly settings: WireSettings;
    readonly slots: readonly Slot[];
    readonly buckets: readonly Bucket[];
  },
): Promise<void> {
  const { ranks } = settings, parts: Promise<Uint8Array>[] = [], means: Promise<Uint8Array>[] = [];
  const on = (i: number): OnSlot => ({ settings, slot: slots[i % DEPTH], bucket: buckets[i] });
  /** Awaited later: while it is on its way, the device packs the next bucket. */
  const later = (call: Promise<Uint8Array>): Promise<Uint8Array> => {
    call.catch(() => {});
    return call;
  };
  for (let i = 0; i < buckets.length + 2; i++) {
    if (i < buckets.length) parts.push(later(ranks.allToAll(await packed(gpu, on(i)))));
    const second = i - 1, third = i - 2;
    if (second >= 0 && second < buckets.length) {
      means.push(
        later(ranks.gather(await meanOf(gpu, { ...on(second), parts: await turning(gpu, parts[second]) }))),
      );
    }
    if (third >= 0) await unpack(gpu, { ...on(third), means: await turning(gpu, means[third]) });
  }
}

/** A bucket and its buffers. */
interface OnSlot {
  readonly settings: WireSettings;
  readonly slot: Slot;
  readonly bucket: Bucket;
}

/** Copies parameters to a bucket, and codes how far they have come. */
async function packed(
  gpu: Gpu,
  { settings: { code }, slot, bucket: { pieces, blocks } }: OnSlot,
): Promise<Uint8Array> {
  const bytes = 4 * blocks * WIRE_BLOCK, filled = pieces.reduce((n, piece) => n + piece.bytes, 0);
  submit(gpu, (encoder) => {
    for (const name of ["start", "now", "residual"] as const) {
      for (const { of, from, at, bytes } of pieces) {
        encoder.copyBufferToBuffer(of[name], from, slot[name], at, bytes);
      }
      if (filled < bytes) encoder.clearBuffer(slot[name], filled, bytes - filled);
    }
  });
  const words = 4 * blocks * WIRE_WORDS[code];
  run(gpu, packChange({ code, blocks }), [
    { buffer: slot.start, size: bytes },
    { buffer: slot.now, size: bytes },
    { buffer: slot.residual, size: bytes },
    { buffer: slot.words, size: words },
  ]);
  return await bytesOf(gpu, { buffer: slot.words, bytes: words });
}

/** Codes the mean of the part of all ranks that this one has. */
async function meanOf(
  gpu: Gpu,
  { settings: { ranks: { rank, size }, code }, slot, bucket, parts }: OnSlot & { readonly parts: Uint8Array },
): Promise<Uint8Array> {
  const blocks = bucket.blocks / size, bytes = 4 * blocks * WIRE_BLOCK, words = 4 * blocks * WIRE_WORDS[code];
  await putWords(gpu, slot, parts);
  run(gpu, packMean({ code, blocks, ranks: size }), [
    { buffer: slot.words, size: size * words },
    { buffer: slot.residual, offset: rank * bytes, size: bytes },
    { buffer: slot.mean, size: words },
  ]);
  return await bytesOf(gpu, { buffer: slot.mean, bytes: words });
}

/** Replaces parameters by the means, and copies the residuals back. */
async function unpack(
  gpu: Gpu,
  { settings: { code, advances }, slot, bucket: { pieces, blocks }, means }: OnSlot & {
    readonly means: Uint8Array;
  },
): Promise<void> {
  const bytes = 4 * blocks * WIRE_BLOCK;
  await putWords(gpu, slot, means);
  run(gpu, unpackChange({ code, blocks }), [
    { buffer: slot.words, size: means.length },
    { buffer: slot.start, size: bytes },
    { buffer: slot.now, size: bytes },
  ]);
  submit(gpu, (encoder) => {
    for (const { of, from, at, bytes } of pieces) {
      encoder.copyBufferToBuffer(slot.now, at, of.now, from, bytes);
      encoder.copyBufferToBuffer(slot.residual, at, of.residual, from, bytes);
      if (advances) encoder.copyBufferToBuffer(slot.now, at, of.start, from, bytes);
    }
  });
}

function run(gpu: Gpu, kernel: KernelText, resources: readonly GPUBufferBinding[]): void {
  submitPass(gpu, [bindKernel(gpu, kernel, resources)]);
}

async function bytesOf(
  gpu: Gpu,
  source: { readonly buffer: GPUBuffer; readonly bytes: number },
): Promise<Uint8Array> {
  const [bytes] = await readBuffers(gpu, [source]);
  return new Uint8Array(bytes);
}

function wordsOf({ buffer, byteOffset, byteLength }: Uint8Array): Uint32Array {
  return new Uint32Array(buffer, byteOffset, byteLength / 4);
}
