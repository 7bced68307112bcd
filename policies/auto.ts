import type { FreezePolicy } from "../core/policy.ts";
import { anyOf } from "./combine.ts";
import { costAware } from "./cost_aware.ts";
import { diminishingReturns } from "./diminishing_returns.ts";

/** Options of {@link auto}. */
export interface AutoOptions {
  /** Ends training when the steps left can gain only this share of what was gained; 0.05 when absent. */
  readonly share?: number;
  /** Most FLOPs of a step to save by freezing, as a share, above 0 and below 1; 0.5 when absent. */
  readonly maxSaving?: number;
  /** Share of the planned steps before anything freezes, 0 to 1; 0.1 when absent. */
  readonly alpha?: number;
}

/**
 * The policy that Firn puts forward: trains what lowers the loss most for its FLOPs, and ends when little is left to gain.
 * Nothing in it depends on model, data, learning rate or length of training.
 *
 * When: time is short. Plan about a quarter more steps than the time would allow, as it ends before them; use `cachePrefix:
 * true` where epochs repeat samples. Cost: one sum per component and step.
 *
 * It is the composition `anyOf(costAware({ maxSaving, alpha, worth: "benefit" }), diminishingReturns({ share }))`:
 *
 * - **What trains** is the set that gains most per FLOP of a step, the chain of gradients included. So a layer freezes only
 *   when it gains much less for its cost than the step as a whole, and whole layers at the bottom freeze first, as they save
 *   the gradients of their inputs too. Where all layers gain alike, nothing freezes.
 * - **When it ends** is where what is left to gain is not worth the remaining steps: by a cosine, before the rate is 0.
 *
 * @param options Share, budget, grace period
 * @returns The policy; its `init` throws an InputError when a component has no cost
 * @throws {InputError} When an option is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { auto } from "@firn/train/policies";
 *
 * assertEquals(
 *   auto().name,
 *   "anyOf(costAware(maxSaving 0.5, alpha 0.1, benefit weight 0.05), diminishingReturns(0.05, alpha 0.5, window 0.05))",
 * );
 * ```
 */
export function auto(options: AutoOptions = {}): FreezePolicy {
  const { share = 0.05, maxSaving = 0.5, alpha = 0.1 } = options;
  return anyOf(costAware({ maxSaving, alpha, worth: "benefit" }), diminishingReturns({ share }));
}
