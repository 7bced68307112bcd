/**
 * One cycle.
 *
 * @module
 */

import { checkRange } from "../arguments.ts";
import type { DecayOptions, Schedule } from "./schedules.ts";

/** Options of {@link oneCycle}; the defaults are those of PyTorch's `OneCycleLR`. */
export interface OneCycleOptions extends DecayOptions {
  /** Rate of the first step; a 25th of the peak when absent. */
  readonly start?: number;
}

/**
 * Rises along half a cosine from `start` at the first step to the peak at step `warmup`, and falls along another to `floor` at the
 * last step. Warm-up takes three tenths of the steps when absent, and the floor is `start` over 10000.
 *
 * Source: Smith and Topin, "Super-Convergence", arXiv 1708.07120, as PyTorch has it, without changes of the momentum.
 *
 * @param options Rates, warm-up and length
 * @returns The schedule
 * @throws {InputError} When a number is out of its range
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { oneCycle } from "@firn/train/optim";
 *
 * const rate = oneCycle({ peak: 1, steps: 100 });
 * assertAlmostEquals(rate(1), 0.04);
 * assertAlmostEquals(rate(30), 1);
 * assertAlmostEquals(rate(100), 4e-6);
 * ```
 */
export function oneCycle(options: OneCycleOptions): Schedule {
  const { peak, steps, warmup = 0.3 * steps, start = peak / 25, floor = start / 1e4 } = options;
  checkRange("oneCycle", { peak, warmup, start, floor }, { least: 0 });
  checkRange("oneCycle", { steps }, { least: 1 });
  const between = (from: number, to: number, progress: number): number =>
    to + (from - to) / 2 * (1 + Math.cos(Math.PI * Math.min(1, Math.max(0, progress))));
  return Object.assign(
    (step: number): number =>
      step < warmup
        ? between(start, peak, (step - 1) / (warmup - 1))
        : between(peak, floor, (step - warmup) / Math.max(1, steps - warmup)),
    { description: `oneCycle(${peak}, warmup ${warmup}, steps ${steps}, floor ${floor}, start ${start})` },
  );
}
