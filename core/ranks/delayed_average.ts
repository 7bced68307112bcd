/**
 * An average of parameters that comes some steps later: they are copied, and sent while the device takes those steps.
 *
 * Ranks are asked for something within the calls of training only, at steps that all ranks know: so they ask for the same, in the
 * same order. Steps are submitted long before the device takes them, and other threads add up.
 *
 * @module
 */

import type { Gpu } from "../runtime/device.ts";
import { submit } from "../runtime/pipelines.ts";
import { storageOf } from "../runtime/residents.ts";
import { sizeOf } from "../spec.ts";
import type { ExchangeTime, Summed } from "../train/parameter_exchange.ts";
import { SENT } from "../train/state/specs.ts";
import type { Leaves } from "../tree.ts";
import type { DelayedSums } from "./delayed_sums.ts";
import type { OuterState, OuterStep } from "./outer_step.ts";

/** Takes averages that come later. */
export interface DelayedAverage {
  /** Copies parameters, on the device and to the host. */
  send(state: Parameters): Promise<void>;
  /**
   * Asks the ranks to add up what was sent, unless they have been asked.
   *
   * @param state The parameters as they are now
   * @param agree Makes sure that all ranks are at the same step
   */
  begin(state: Parameters, agree: () => Promise<unknown>): Promise<void>;
  /**
   * Takes the ranks to the mean, with what they have done since. It was begun.
   *
   * @param state The parameters as they are now
   * @returns How long it took; what the device did meanwhile hides it
   */
  end(state: OuterState): Promise<ExchangeTime>;
}

/** Parameters, what belongs to them, and the step after which they were copied. */
type Parameters = Omit<OuterState, "count"> & { readonly sent: number };

/**
 * Makes what takes averages that come later.
 *
 * @param gpu The device
 * @param with `sums`: what adds up over the ranks; `step`: what becomes of the mean
 * @returns It
 */
export function delayedAverage(
  gpu: Gpu,
  { sums, step }: { readonly sums: DelayedSums; readonly step: OuterStep },
): DelayedAverage {
  return {
    async send({ params, leaves, sent: step }) {
      const sent = sentOf(params, leaves), from = [...params.values()].map((t) => storageOf(t).buffer);
      submit(
        gpu,
        (encoder) =>
          sent.forEach(({ buffer, bytes }, i) => encoder.copyBufferToBuffer(from[i], 0, buffer, 0, bytes)),
      );
      await sums.stage(sent, step);
    },
    async begin({ params, leaves, sent: step }, agree) {
      const sent = sentOf(params, leaves), isStaged = sums.has(sent, step);
      if (isStaged && sums.begun) return;
      // After a resume, in another run, and after a run went back, the host does not have it.
      if (!isStaged) await sums.stage(sent, step);
      await sums.begin(agree());
    },
    async end(state) {
      // The sums come to where the copies are.
      await step.since(state);
      const time = await sums.end();
      await step.rejoin(state);
      return time;
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
