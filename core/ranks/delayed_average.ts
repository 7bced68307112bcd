/**
 * An average of parameters that comes some steps later: they are copied, and sent while the device takes those steps.
 *
 * All of it happens within the calls of training. A call submits steps long before the device takes them, so that the ranks add up
 * while it does, and ask for nothing in an order that depends on time.
 *
 * @module
 */

import type { Gpu } from "../runtime/device.ts";
import { submit } from "../runtime/pipelines.ts";
import { staysQueued } from "../runtime/readback.ts";
import { storageOf } from "../runtime/residents.ts";
import { sizeOf } from "../spec.ts";
import type { ExchangeTime, Summed } from "../train/parameter_exchange.ts";
import { SENT } from "../train/state/specs.ts";
import type { StagedExchange } from "../train/step/exchange.ts";
import type { Leaves } from "../tree.ts";
import type { OuterState, OuterStep } from "./outer_step.ts";

/** Takes averages that come later. */
export interface DelayedAverage {
  /** Copies parameters, on the device and to the host. */
  send(state: Omit<OuterState, "count">): Promise<void>;
  /**
   * Adds up what was sent, and takes the ranks there with what they have done since.
   *
   * @param state The parameters as they are now
   * @param options `after`: nothing is given to the other ranks before that
   * @returns How long it took; what the device did meanwhile hides it
   */
  rejoin(state: OuterState, options: { readonly after: Promise<unknown> }): Promise<ExchangeTime>;
}

/**
 * Makes what takes averages that come later.
 *
 * @param gpu The device
 * @param with `sums`: an exchange that has memory of the host for all of it; `step`: what becomes of the mean
 * @returns It
 */
export function delayedAverage(
  gpu: Gpu,
  { sums, step }: { readonly sums: StagedExchange; readonly step: OuterStep },
): DelayedAverage {
  // What the host has; after a resume, or in another run, it is copied from the device.
  let staged: readonly GPUBuffer[] = [];
  const stage = async (sent: readonly Summed[]): Promise<void> => {
    await sums.stage(sent);
    staged = sent.map(({ buffer }) => buffer);
  };
  return {
    async send({ params, leaves }) {
      const sent = sentOf(params, leaves), from = [...params.values()].map((t) => storageOf(t).buffer);
      submit(
        gpu,
        (encoder) =>
          sent.forEach(({ buffer, bytes }, i) => encoder.copyBufferToBuffer(from[i], 0, buffer, 0, bytes)),
      );
      await stage(sent);
    },
    async rejoin(state, { after }) {
      const sent = sentOf(state.params, state.leaves);
      if (!sent.every(({ buffer }, i) => staged[i] === buffer) || sent.length !== staged.length) {
        await stage(sent);
      }
      staged = [];
      // The sums come to where the copies are.
      await step.since(state);
      const device = workOf(gpu), time = await sums.sum(sent, { after, staged: true });
      await step.rejoin(state);
      return { ...time, waitedMs: Math.min(time.ms, device.idleMs()) };
    },
  };
}

/** Copies of parameters, in their order. */
function sentOf(params: Leaves, leaves: Leaves): Summed[] {
  return [...params].map(([path, t]) => ({
    buffer: storageOf(leaves.get(SENT + path)!).buffer,
    bytes: 4 * sizeOf(t.shape),
  }));
}

/** How long the device has had nothing to do of what is submitted now. */
function workOf(gpu: Gpu): { idleMs(): number } {
  // Where mapping waits for all that is submitted, the device has nothing to do as the first value arrives.
  if (!staysQueued(gpu)) return { idleMs: () => Infinity };
  let done = Infinity;
  const note = (): void => {
    done = performance.now();
  };
  gpu.device.queue.onSubmittedWorkDone().then(note, note);
  return { idleMs: () => Math.max(0, performance.now() - done) };
}
