/**
 * Adds up what the ranks of a training have summed over their parts of a step.
 *
 * Each rank weights its gradients by its labels over a power of two that all ranks share, so that no rank must know the labels of
 * the others before its forward pass; the update divides by the labels of all, over the same power. Powers of two change no bit.
 *
 * @module
 */

import { RanksError } from "../../errors.ts";
import { fingerprint, wordsOf } from "../../fingerprint.ts";
import type { Ranks } from "../../ranks/ranks.ts";
import { createBuffer, destroyBuffer, writeValues } from "../../runtime/buffers.ts";
import type { Gpu } from "../../runtime/device.ts";
import { submit } from "../../runtime/pipelines.ts";
import { readBuffers } from "../../runtime/readback.ts";

/** Bytes that go to the other ranks at a time, while the next are read. */
const BUCKET = 32 * 2 ** 20;
/** Bits of a number that stays exact in f32 when 1,024 ranks add it up. */
const EXACT_BITS = 13;

/** A buffer of sums. */
export interface Summed {
  readonly buffer: GPUBuffer;
  readonly bytes: number;
}

/** Exchanges the sums of a step. */
export interface Exchange {
  /**
   * Tells the other ranks how many labels this one has.
   *
   * @param labels Labels of the parts of this rank
   * @param what The step, and what its sums are
   * @returns Labels of all ranks
   * @throws {RanksError} When another rank is at another step, or has frozen something else
   */
  agree(labels: number, what: { readonly step: number; readonly key: string }): Promise<number>;
  /** Replaces sums of this rank by those of all. All ranks get the same bits. */
  sum(sums: readonly Summed[]): Promise<void>;
  /** Bytes that this rank gave to the others so far. */
  readonly bytes: number;
  /** Frees its buffers. */
  destroy(): void;
}

/** A piece of a buffer. */
interface Piece {
  readonly buffer: GPUBuffer;
  readonly from: number;
  readonly bytes: number;
}

/**
 * Makes an exchange.
 *
 * @param gpu The device
 * @param ranks The ranks
 * @returns The exchange
 */
export function gradientExchange(gpu: Gpu, ranks: Ranks): Exchange {
  const packs: GPUBuffer[] = [];
  let bytes = 0, size = 0;
  const free = (): void => packs.splice(0).forEach(destroyBuffer);
  return {
    get bytes() {
      return bytes;
    },
    async agree(labels, { step, key }) {
      // Equal on all ranks when the sums are those of equal numbers.
      const [high, low] = halvesOf(`${step} ${key}`);
      const numbers = Float32Array.of(labels, high, low);
      await ranks.sum(numbers);
      if (numbers[1] !== high * ranks.size || numbers[2] !== low * ranks.size) {
        throw new RanksError(
          `Cannot take step ${step} as all ${ranks.size} ranks must take the same one: rank ${ranks.rank} is at step ${step}, and another at another step, with other parameters, or with something else frozen; start all with the same flags, files and version`,
        );
      }
      return numbers[0];
    },
    async sum(sums) {
      const buckets = bucketsOf(sums), largest = Math.min(BUCKET, bytesOfSums(sums));
      // What thaws has sums that were not there before.
      if (size < largest) free();
      size = Math.max(size, largest);
      while (packs.length < Math.min(2, buckets.length)) {
        packs.push(createBuffer(gpu, { label: "exchange", bytes: size }));
      }
      let sent: Promise<void> = Promise.resolve();
      for (const [i, pieces] of buckets.entries()) {
        const pack = packs[i % 2], filled = bytesOfSums(pieces);
        copy(gpu, { pieces, pack, into: true });
        const [values] = await readBuffers(gpu, [{ buffer: pack, bytes: filled }]);
        const numbers = new Float32Array(values);
        await sent;
        sent = ranks.sum(numbers).then(() => {
          writeValues(gpu, pack, numbers);
          copy(gpu, { pieces, pack, into: false });
        });
        // Awaited later: while it is on its way, the next bucket is read.
        sent.catch(() => {});
        bytes += filled;
      }
      await sent;
    },
    destroy: free,
  };
}

/**
 * Bytes that an exchange of sums takes on the device.
 *
 * @param bytes Bytes of the sums
 * @returns Bytes of its buffers
 */
export function exchangeBytes(bytes: number): number {
  return bytes <= BUCKET ? bytes : 2 * BUCKET;
}

function bytesOfSums(sums: readonly Pick<Summed, "bytes">[]): number {
  return sums.reduce((n, { bytes }) => n + bytes, 0);
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

/** Pieces of buffers, together at most {@link BUCKET} each. */
function bucketsOf(sums: readonly Summed[]): Piece[][] {
  const buckets: Piece[][] = [[]];
  let room = BUCKET;
  for (const { buffer, bytes } of sums) {
    for (let from = 0; from < bytes;) {
      if (room === 0) {
        buckets.push([]);
        room = BUCKET;
      }
      const part = Math.min(room, bytes - from);
      buckets.at(-1)!.push({ buffer, from, bytes: part });
      from += part;
      room -= part;
    }
  }
  return buckets;
}

/** Copies pieces into a buffer where they lie one after the other, or back. */
function copy(
  gpu: Gpu,
  { pieces, pack, into }: {
    readonly pieces: readonly Piece[];
    readonly pack: GPUBuffer;
    readonly into: boolean;
  },
): void {
  submit(gpu, (encoder) => {
    let at = 0;
    for (const { buffer, from, bytes } of pieces) {
      if (into) encoder.copyBufferToBuffer(buffer, from, pack, at, bytes);
      else encoder.copyBufferToBuffer(pack, at, buffer, from, bytes);
      at += bytes;
    }
  });
}
