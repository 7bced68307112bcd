/**
 * Sums over ranks that come later: they are added up by other threads, while this one goes on.
 *
 * @module
 */

import type { Gpu } from "../runtime/device.ts";
import { checkAllocations } from "../runtime/buffers.ts";
import { staysQueued } from "../runtime/readback.ts";
import { worksIn } from "../runtime/shared_memory.ts";
import { turning } from "../runtime/turns.ts";
import type { ExchangeTime, Summed } from "../train/parameter_exchange.ts";
import type { Ranks } from "../train/ranks.ts";
import { bucketsOf, type Piece, stagingOf, totalBytes } from "../train/step/buckets.ts";
import {
  addUp,
  freeSlot,
  newSlots,
  putBack,
  read,
  type Slot,
  stage,
  type Sums,
} from "../train/step/exchange.ts";

/** Adds up values over the ranks in three steps, between which the caller does other work. */
export interface DelayedSums {
  /** Copies values of a step to memory of the host, once the device has come so far. What was copied before is dropped. */
  stage(of: readonly Summed[], step: number): Promise<void>;
  /** Whether the copies are those of some buffers after a step: a run may have gone back to one before. */
  has(of: readonly Summed[], step: number): boolean;
  /**
   * Asks the ranks to add up the copies, and does not wait until they have. Calls of the ranks that come later are made after it.
   *
   * @param after Nothing is given to the other ranks before that
   */
  begin(after: Promise<unknown>): Promise<void>;
  /** Whether they were asked. */
  readonly begun: boolean;
  /** Waits for the sums, and writes them to where the values came from. */
  end(): Promise<ExchangeTime>;
  /** Frees its buffers, once nobody writes to them. */
  destroy(): void;
}

/** What is copied. */
interface Copied {
  /** After which step. */
  readonly step: number;
  readonly buckets: readonly (readonly Piece<Summed>[])[];
  /** What the ranks make of it; null before they are asked. */
  sums: Promise<Sums[]> | null;
  /** Milliseconds that the device had nothing to do as this process waited, and those of the sums. */
  waitedMs: number;
  sumMs: number;
}

/**
 * Makes what adds up values over the ranks.
 *
 * @param gpu The device
 * @param ranks The ranks
 * @returns It; its buffers are made when they are needed
 */
export function delayedSums(gpu: Gpu, ranks: Ranks): DelayedSums {
  let slots: Slot[] = [], copied: Copied | null = null;
  const drop = async (): Promise<void> => {
    // The other ranks add up what is on its way, too.
    await (copied?.sums && turning(gpu, copied.sums));
    // What holds the sums is not to be sent, nor can it be asked for once more.
    if (copied?.sums) slots.splice(0).forEach(freeSlot);
    copied = null;
  };
  return {
    async stage(of, step) {
      await drop();
      const buckets = bucketsOf(of, { whole: true }), size = stagingOf(gpu, buckets, { whole: true });
      if (slots.length !== size.count || slots[0]?.staging.buffer.size !== size.bytes) {
        slots.splice(0).forEach(freeSlot);
        const made = newSlots(gpu, size);
        try {
          await checkAllocations(gpu);
        } catch (error) {
          made.forEach(freeSlot);
          throw error;
        }
        slots = made;
      }
      buckets.forEach((pieces, i) => stage(gpu, pieces, slots[i].staging));
      copied = { step, buckets, sums: null, waitedMs: 0, sumMs: 0 };
    },
    has: (of, step) => {
      if (copied?.step !== step) return false;
      const known = new Set(copied.buckets.flat().map((piece) => piece.of.buffer));
      return known.size === of.length && of.every(({ buffer }) => known.has(buffer));
    },
    get begun() {
      return copied !== null && copied.sums !== null;
    },
    async begin(after) {
      const { buckets } = copied!, waits = waitsFor(gpu);
      const values = await Promise.all(
        buckets.map((pieces, i) => read(gpu, ranks, { ...slots[i], bytes: totalBytes(pieces) })),
      );
      await turning(gpu, Promise.all([after, ...slots.map(({ upload }) => upload?.ready())]));
      copied!.waitedMs += waits.idleMs();
      const begun = performance.now(), own = copied!;
      own.sums = Promise.all(values.map((bucket, i) => addUp(gpu, ranks, { values: bucket, ...slots[i] })));
      worksIn(gpu.device, own.sums);
      own.sums.then(() => own.sumMs = performance.now() - begun, () => {});
    },
    async end() {
      const { buckets, sums } = copied!, waits = waitsFor(gpu), all = await turning(gpu, sums!);
      const begun = performance.now();
      all.forEach((sums, i) => {
        putBack(gpu, { ...slots[i], pieces: buckets[i], sums });
        slots[i].staging.buffer.unmap();
      });
      const write = performance.now() - begun, { sumMs, waitedMs } = copied!;
      copied = null;
      const ms = sumMs + write, idle = waitedMs + waits.idleMs();
      return { ms, waitedMs: Math.min(ms, idle), stages: { read: 0, sum: sumMs, write } };
    },
    destroy() {
      const all = slots, free = (): void => all.forEach(freeSlot);
      slots = [];
      // Where the sums fail, the other ranks may still write to it.
      if (copied?.sums) copied.sums.then(free, () => {});
      else free();
      copied = null;
    },
  };
}

/** How long the device has had nothing to do of what is submitted now. */
function waitsFor(gpu: Gpu): { idleMs(): number } {
  // Where mapping waits for all that is submitted, the device has nothing to do as the first value arrives.
  if (!staysQueued(gpu)) return { idleMs: () => Infinity };
  let done = Infinity;
  const note = (): void => {
    done = performance.now();
  };
  gpu.device.queue.onSubmittedWorkDone().then(note, note);
  return { idleMs: () => Math.max(0, performance.now() - done) };
}
