/**
 * Adds up what the ranks of a training have summed over their parts of a step, while the device works on.
 *
 * Sums go to the other ranks in buckets, those first that the backward pass completes first. Once the device has completed a bucket
 * and copied it to memory of the host, the ranks add it up there and upload it, while the device goes on with the backward pass. All
 * ranks give the same buckets in the same order, whatever is ready first.
 *
 * Each rank weights its gradients by its labels over a power of two that all ranks share, so that no rank must know the labels of
 * the others before its forward pass; the update divides by the labels of all, over the same power. Powers of two change no bit.
 *
 * @module
 */

import { RanksError } from "../../errors.ts";
import { fingerprint, wordsOf } from "../../fingerprint.ts";
import { type MappedMemory, valuesIn } from "../../host/mapped_memory.ts";
import type { Ranks } from "../ranks.ts";
import { checkAllocations, destroyBuffer, writeValues } from "../../runtime/buffers.ts";
import type { Gpu } from "../../runtime/device.ts";
import { type KeptUpload, keptUpload } from "../../runtime/kept_upload.ts";
import { submit } from "../../runtime/pipelines.ts";
import { mapped, newStaging, type Staging, staysQueued } from "../../runtime/readback.ts";
import { worksIn } from "../../runtime/shared_memory.ts";
import { turning } from "../../runtime/turns.ts";
import type { Exchange, ExchangeTime, Summed } from "../parameter_exchange.ts";
import { bucketsOf, type Piece, stagingOf, totalBytes } from "./buckets.ts";
import { exchangeClock } from "./exchange_clock.ts";

/** Bits of a number that stays exact in f32 when 1,024 ranks add it up. */
const EXACT_BITS = 13;

/** Memory of the host through which a bucket goes. */
export interface Slot {
  /** For its way there. */
  readonly staging: Staging;
  /** For its way back; null where `writeBuffer` does it. */
  readonly upload: KeptUpload | null;
}

/** What an exchange has. */
interface Held {
  readonly gpu: Gpu;
  readonly ranks: Ranks;
  slots: readonly Slot[];
  bytes: number;
}

/**
 * Makes an exchange.
 *
 * @param gpu The device
 * @param ranks The ranks
 * @returns The exchange
 */
export function gradientExchange(gpu: Gpu, ranks: Ranks): Exchange {
  const held: Held = { gpu, ranks, slots: [], bytes: 0 };
  let unit: number | null = null;
  return {
    get bytes() {
      return held.bytes;
    },
    get unit() {
      return unit;
    },
    async agree(labels, { step, key }) {
      // Equal on all ranks when the sums are those of equal numbers.
      const [high, low] = halvesOf(`${step} ${key}`);
      const numbers = Float32Array.of(labels, high, low);
      await turning(gpu, ranks.sum(numbers));
      if (numbers[1] !== high * ranks.size || numbers[2] !== low * ranks.size) {
        throw new RanksError(
          `Cannot take step ${step} as all ${ranks.size} ranks must take the same one: rank ${ranks.rank} is at step ${step}, and another at another step, with other parameters, or with something else frozen; start all with the same flags, files and version`,
        );
      }
      unit ??= unitOf(numbers[0] / ranks.size);
      return numbers[0];
    },
    async sum(sums, { after } = {}) {
      const buckets = bucketsOf(sums);
      try {
        await makeRoom(held, stagingOf(gpu, buckets));
        return await exchangeAll(held, { buckets, after });
      } catch (error) {
        // What the device refused is of no use, and the other ranks may still write to what is on its way.
        free(held);
        throw error;
      }
    },
    destroy: () => free(held),
  };
}

/** Makes slots, where there are other ones: they take the driver long. More or larger ones than a step plans are not kept. */
async function makeRoom(
  held: Held,
  { count, bytes }: { readonly count: number; readonly bytes: number },
): Promise<void> {
  const { gpu } = held;
  if ((held.slots[0]?.staging.buffer.size ?? bytes) !== bytes) free(held);
  if (held.slots.length === count) return;
  held.slots.slice(count).forEach(freeSlot);
  const kept = held.slots.slice(0, count);
  held.slots = [...kept, ...newSlots(gpu, { count: count - kept.length, bytes })];
  await checkAllocations(gpu);
}

/** Makes slots. {@link checkAllocations} tells whether there was room. */
export function newSlots(
  gpu: Gpu,
  { count, bytes }: { readonly count: number; readonly bytes: number },
): Slot[] {
  return Array.from({ length: count }, () => ({
    staging: newStaging(gpu, bytes),
    upload: staysQueued(gpu) ? keptUpload(gpu, bytes) : null,
  }));
}

/** Frees what is not on its way; what is, once it has arrived. */
function free(held: Held): void {
  for (const slot of held.slots) if (!slot.staging.busy) freeSlot(slot);
  held.slots = [];
}

/** Frees memory of the host. */
export function freeSlot({ staging, upload }: Slot): void {
  destroyBuffer(staging.buffer);
  upload?.destroy();
}

/** Exchanges buckets: while one is summed, others are read, written, and computed. */
async function exchangeAll(
  held: Held,
  { buckets, after }: {
    readonly buckets: readonly (readonly Piece<Summed>[])[];
    readonly after: Promise<unknown> | undefined;
  },
): Promise<ExchangeTime> {
  const { gpu, ranks, slots } = held, arrived: Promise<void>[] = [], reads: Promise<MappedMemory>[] = [];
  const freed = new Set<Slot>(slots), completed = new Set<Summed>(), clock = exchangeClock();
  // Where mapping waits for all that is submitted, the next bucket is submitted once this one is mapped.
  const ahead = staysQueued(gpu) ? slots.length - 1 : 0;
  const submitNext = (): void => {
    const at = reads.length, slot = slots[at % slots.length];
    for (const { of } of buckets[at]) {
      if (!completed.has(of)) of.complete?.();
      completed.add(of);
    }
    stage(gpu, buckets[at], slot.staging);
    freed.delete(slot);
    const reading = read(gpu, ranks, { staging: slot.staging, bytes: totalBytes(buckets[at]) });
    reading.catch(() => {});
    reads.push(reading);
  };
  const give = async (slot: Slot, pieces: readonly Piece<Summed>[], values: MappedMemory): Promise<void> => {
    const { staging, upload } = slot;
    // The other ranks may write to it, whatever happens here.
    staging.busy = true;
    const sums = await clock.sum(() => addUp(gpu, ranks, { values, upload }));
    staging.busy = false;
    // Freed meanwhile, with the buffers of the sums.
    if (held.slots !== slots) return freeSlot(slot);
    clock.write(() => putBack(gpu, { upload, pieces, sums }));
    staging.buffer.unmap();
    freed.add(slot);
  };
  for (const [i, pieces] of buckets.entries()) {
    const slot = slots[i % slots.length], end = Math.min(i + 1 + ahead, buckets.length);
    if (reads.length === i && !freed.has(slot)) await turning(gpu, arrived[i - slots.length]);
    // What is further ahead is not waited for: this one must not come late to the other ranks.
    while (reads.length < end && freed.has(slots[reads.length % slots.length])) submitNext();
    const values = await clock.read(() => Promise.all([reads[i], slot.upload?.ready()]));
    if (i === 0 && after !== undefined) await turning(gpu, after);
    const sent = give(slot, pieces, values[0]);
    // Awaited later: while it is on its way, the next bucket is read.
    worksIn(gpu.device, sent);
    arrived.push(sent);
    held.bytes += totalBytes(pieces);
  }
  // Without turns of the event loop the ranks would be heard late, too.
  await turning(gpu, Promise.all(arrived));
  return clock.time();
}

/** What a bucket has become; null where that is in the memory of the upload already. */
export type Sums = Float32Array | null;

/** Bytes that are seen of mapped memory which ranks add up in: more make V8 collect garbage. */
function seenOf({ source }: Gpu, { sumMapped, seenBytes }: Ranks, bytes: number): number {
  return source.inPlace && sumMapped !== undefined && seenBytes !== undefined ? seenBytes(bytes) : bytes;
}

/** Adds up a bucket over the ranks, where its upload begins if they can. */
export async function addUp(
  gpu: Gpu,
  ranks: Ranks,
  { values, upload }: Pick<Slot, "upload"> & { readonly values: MappedMemory },
): Promise<Sums> {
  if (upload === null || ranks.sumMapped === undefined) {
    const sums = valuesIn(values);
    await ranks.sum(sums);
    return sums;
  }
  const { bytes } = values;
  await ranks.sumMapped(values, { first: new Uint8Array(upload.first(seenOf(gpu, ranks, bytes))), bytes });
  return null;
}

/** Copies a bucket to where the host maps it. */
export function stage(gpu: Gpu, pieces: readonly Piece<Summed>[], { buffer }: Staging): void {
  submit(gpu, (encoder) => {
    let at = 0;
    for (const { of, from, bytes } of pieces) {
      encoder.copyBufferToBuffer(of.buffer, from, buffer, at, bytes);
      at += bytes;
    }
  });
}

/** The memory of a bucket that was staged. */
export async function read(
  gpu: Gpu,
  ranks: Ranks,
  { staging, bytes }: Pick<Slot, "staging"> & { readonly bytes: number },
): Promise<MappedMemory> {
  return { first: new Uint8Array(await mapped(gpu, staging, bytes, seenOf(gpu, ranks, bytes))), bytes };
}

/** Uploads a bucket to where it came from. */
export function putBack(
  gpu: Gpu,
  { upload, pieces, sums }: Pick<Slot, "upload"> & {
    readonly pieces: readonly Piece<Summed>[];
    readonly sums: Sums;
  },
): void {
  let at = 0;
  if (upload === null) {
    for (const { of, from, bytes } of pieces) {
      writeValues(gpu, of.buffer, sums!.subarray(at, at += bytes / 4), { offset: from });
    }
    return;
  }
  if (sums !== null) new Float32Array(upload.first(sums.byteLength)).set(sums);
  upload.send((encoder, buffer) => {
    for (const { of, from, bytes } of pieces) {
      encoder.copyBufferToBuffer(buffer, at, of.buffer, from, bytes);
      at += bytes;
    }
  });
}

/** The power of two near a number of labels. */
export function unitOf(labels: number): number {
  return 2 ** Math.round(Math.log2(Math.max(1, labels)));
}

/** Two numbers that differ for differing texts, almost surely. */
function halvesOf(text: string): [number, number] {
  const hash = fingerprint([wordsOf(text)]);
  const bits = (from: number): number => parseInt(hash.slice(from, from + 4), 16) & (2 ** EXACT_BITS - 1);
  return [bits(0), bits(8)];
}
