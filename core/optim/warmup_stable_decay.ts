/**
 * A rate that stays, and falls at the end.
 *
 * @module
 */

import { checkRange, refuse } from "../arguments.ts";
import { type DecayOptions, type Schedule, withWarmup } from "./schedules.ts";

/** Options of {@link warmupStableDecay}. */
export interface WarmupStableDecayOptions extends DecayOptions {
  /** Steps of the fall, the last ones; a tenth of all when absent. */
  readonly decay?: number;
  /** How the rate falls; `cosine` when absent. `root` is one less the root of the progress, steep at first. */
  readonly shape?: "cosine" | "linear" | "root";
}

/** Share of the fall that is left, by the progress from 0 to 1. */
const SHAPES = {
  cosine: (progress: number): number => 0.5 * (1 + Math.cos(Math.PI * progress)),
  linear: (progress: number): number => 1 - progress,
  root: (progress: number): number => 1 - Math.sqrt(progress),
};

/**
 * Stays at the peak after warm-up, and falls to `floor` in the last steps: a run may go on from the part that is stable with
 * another length.
 *
 * Source: Hu et al., "MiniCPM", arXiv 2404.06395, section 4; `root` is that of Haegele et al., arXiv 2405.18392.
 *
 * @param options Rate, warm-up, length and fall
 * @returns The schedule
 * @throws {InputError} When a number is out of its range, or there is no such shape
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { warmupStableDecay } from "@firn/train/optim";
 *
 * const rate = warmupStableDecay({ peak: 1, warmup: 10, steps: 100, decay: 20 });
 * assertAlmostEquals(rate(5), 0.5);
 * assertAlmostEquals(rate(80), 1);
 * assertAlmostEquals(rate(90), 0.5);
 * assertAlmostEquals(rate(100), 0);
 * ```
 */
export function warmupStableDecay(options: WarmupStableDecayOptions): Schedule {
  const { peak, steps, floor = 0, shape = "cosine" } = options, { decay = Math.ceil(steps / 10) } = options;
  checkRange("warmupStableDecay", { steps, decay }, { least: 1 });
  checkRange("warmupStableDecay", { floor }, { least: 0 });
  if (!Object.hasOwn(SHAPES, shape)) {
    refuse("warmupStableDecay", `"shape" must be one of ${Object.keys(SHAPES).join(", ")}`, shape);
  }
  const progress = (step: number): number => Math.min(1, Math.max(0, (step - steps + decay) / decay));
  return withWarmup(options, {
    name: "warmupStableDecay",
    settings: `, steps ${steps}, floor ${floor}, decay ${decay}, ${shape}`,
    after: (step) => floor + (peak - floor) * SHAPES[shape](progress(step)),
  });
}
