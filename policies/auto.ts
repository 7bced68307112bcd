import type { FreezePolicy } from "../core/policy.ts";
import { bottomFreeze } from "./bottom_freeze.ts";
import { anyOf } from "./combine.ts";
import { diminishingReturns } from "./diminishing_returns.ts";

/** Options of {@link auto}. */
export interface AutoOptions {
  /** Share of the layers that freezes, above 0 and at most 1; 0.5 when absent. */
  readonly layers?: number;
  /** Ends training when the steps left can gain only this share of what was gained; 0.05 when absent. */
  readonly share?: number;
}

/**
 * Trains the upper half of a pretrained model, and ends when little is left to gain.
 *
 * When: rarely. In `tests/bench/STUDY.md` it is nowhere better than training for a shorter time at equal wall-clock; it is worse on
 * _Moby-Dick_ and instructions, and by MiniLM on classes. Not for a model with random weights, whose lower half has learned nothing
 * yet. Take `cachePrefix: true` where epochs repeat samples, and try a higher learning rate than for all layers. Plan as many steps as
 * without it, with a cosine: it ends after 60 to 80 % of them. Cost: one sum per component and step.
 *
 * It is the composition `anyOf(bottomFreeze(layers), diminishingReturns({ share }))`:
 *
 * - **What trains** is known before the first step, so it costs no measuring, and one change at the first look, which is planned while
 *   the device works. From then on a step saves the gradients of the lower half, and with `cachePrefix` its forward pass in later epochs.
 * - **When it ends** is where what is left to gain is not worth the remaining steps: by a cosine, before the rate is 0.
 *
 * @param options Layers, share
 * @returns The policy; its `init` throws an InputError when the share of the layers is less than half a layer
 * @throws {InputError} When an option is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { auto } from "@firn/train/policies";
 *
 * assertEquals(auto().name, "anyOf(bottomFreeze(0.5), diminishingReturns(0.05, alpha 0.5, window 0.05))");
 * ```
 */
export function auto({ layers = 0.5, share = 0.05 }: AutoOptions = {}): FreezePolicy {
  return anyOf(bottomFreeze(layers), diminishingReturns({ share }));
}
