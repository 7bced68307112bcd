import { InputError } from "../core/errors.ts";
import type { FreezePolicy } from "../core/policy.ts";
import { costOf, pricesOf } from "./cost.ts";
import { type CostState, decide, observe, type Rules } from "./cost_decision.ts";
import { definePolicy } from "./define_policy.ts";
import type { AdamDecays } from "./moments.ts";
import { shareOf } from "./share_of.ts";

/** Options of {@link costAware}. Exactly one of `targetSpeedup` and `maxSaving` is needed. */
export interface CostAwareOptions extends AdamDecays {
  /** FLOPs of a full step over those of a step after the last decision, at least; above 1. */
  readonly targetSpeedup?: number;
  /** Most FLOPs to save, as a share of those of a full step; above 0 and below 1. */
  readonly maxSaving?: number;
  /** Share of the planned steps before the first decision, 0 to 1; 0.25 when absent. */
  readonly alpha?: number;
  /** Steps between decisions, and at least as many after the last; a quarter of the planned steps when absent. */
  readonly every?: number;
  /**
   * The worth of a component: `gain`, from Adam's moments and without noise, or the signal `benefit`, for any optimizer and
   * with noise; `gain` when absent.
   */
  readonly worth?: "gain" | "benefit";
  /** Weight of the newest reading in the running average, above 0 and at most 1; 0.05 when absent. */
  readonly weight?: number;
  /**
   * A frozen component thaws when its worth is this many times that of what freezes instead, 1 or more; never when absent.
   * A component without worth stays frozen.
   */
  readonly thaw?: number;
  /** With `thaw`: growth of the remembered worth of a frozen component per decision, 0 or more; 0.1 when absent. */
  readonly curiosity?: number;
}

/**
 * Trains the components that lower the loss most for their cost, the chain of gradients down to them included.
 *
 * When: a budget is given, a speed-up or a share of FLOPs to save. Cost: two sums per component and step (one with
 * `worth: "benefit"`), no probe steps.
 *
 * **Decisions.** After the grace period `alpha`, and then every so many steps, it compares all sets of active
 * components by {@link stepCost}. With `targetSpeedup` it takes, among the sets that are cheap enough, the one worth
 * most, and of equals the costlier. So the speed-up is at least the target; it is larger only if no set in between is
 * worth more, as when one wide layer at the bottom must go. With `maxSaving` it takes the set worth most per FLOP among
 * those that save no more.
 *
 * **Steps towards the budget.** With `targetSpeedup` the FLOPs to save grow in equal parts from decision to decision,
 * so the least useful components freeze first and most freeze when the learning rate is low. Each decision chooses the
 * set for the whole budget, and freezes a part of what is outside that set: enough for the saving due, and worth least.
 *
 * **Few changes.** A change of the frozen set costs time, and a thawed component starts with empty moments. So no
 * decision is so late that its set would train for less than `every` steps, and frozen components stay frozen. With
 * `thaw` one comes back when its remembered worth exceeds that of what would freeze instead by that factor. Remembered
 * worths grow by `curiosity` per decision until they are tried again; the first new reading then replaces them.
 *
 * **Worth.** A running average, divided by the learning rate. A `gain` is the first-order decrease of the loss by the
 * part of the gradient that is not noise; `benefit` includes the noise of small batches, above all in large matrices. A
 * gain needs Adam or AdamW with these decays, and readings of every step. Nothing freezes before each component was
 * measured. A negative gain (overshooting, or all noise) counts as zero; between otherwise equal sets the most negative
 * freezes. A reason names the component's signed share of all absolute worths when it froze.
 *
 * Components hidden by {@link only} stay active and keep their part of the chain alive.
 *
 * Source: Huang et al., "Towards Green AI in Fine-tuning Large Language Models via Adaptive Backpropagation"
 * (GreenTrainer), arXiv 2309.13192: importance by `g * dW`, a budget of FLOPs, a dynamic programme. Deviations: each
 * component by itself in place of tensors of a layer, gains without noise, or absolute values element by element, in place
 * of their sum, an average over steps in place of one evaluation, a budget that tightens within one set for all of it, and
 * no rounding of costs up to 4000 different ones.
 *
 * @param options Budget, time, worth
 * @returns The policy; its `init` throws an InputError when a component has no cost, and one when no step can be
 * that cheap
 * @throws {InputError} When an option is out of its range
 * @throws {InputError} When there is not exactly one budget
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { costAware } from "@firn/train/policies";
 *
 * const layer = (depth: number) => {
 *   const cost = { forward: 1, dX: 1, dW: 1, depth };
 *   return { path: `${depth}`, layer: depth, parameters: [], kind: "linear", size: 4, cost } as const;
 * };
 * const policy = costAware({ targetSpeedup: 1.3, alpha: 0.5, worth: "benefit" });
 * const start = policy.init([0, 1, 2].map(layer), { steps: 2 });
 * const benefit = { 0: [3], 1: [2], 2: [2] };
 * const state = policy.next(start, { steps: [1], loss: [1], learningRate: [0.1], readings: { benefit } });
 * assertEquals(policy.frozen(state), ["0"]); // 8 FLOPs become 6; without "1" or "2" they were 7
 * ```
 */
export function costAware(options: CostAwareOptions): FreezePolicy {
  const { targetSpeedup, maxSaving, alpha = 0.25, every, worth = "gain", weight = 0.05 } = options;
  const { thaw, curiosity = 0.1, beta1 = 0.9, beta2 = 0.999 } = options;
  check(options);
  const budget = targetSpeedup === undefined ? `maxSaving ${maxSaving}` : `targetSpeedup ${targetSpeedup}`;
  const parts = [
    budget,
    `alpha ${alpha}`,
    every === undefined ? "" : `every ${every}`,
    `${worth} weight ${weight}`,
    thaw === undefined ? "" : `thaw ${thaw} curiosity ${curiosity}`,
    beta1 === 0.9 ? "" : `beta1 ${beta1}`,
    beta2 === 0.999 ? "" : `beta2 ${beta2}`,
  ];
  const name = `costAware(${parts.filter((part) => part !== "").join(", ")})`;

  const rules: Rules = { targetSpeedup, maxSaving, worth, weight, thaw, curiosity, beta1, beta2 };
  return definePolicy<CostState>({
    name,
    signals: worth === "gain" ? ["firstMoment", "secondMoment"] : ["benefit"],
    init(components, { steps }) {
      const prices = pricesOf(components), full = costOf(prices, () => true);
      const most = full / Math.min(...prices.map(({ path }) => costOf(prices, (active) => active === path)));
      if (targetSpeedup !== undefined && !(targetSpeedup <= most)) {
        throw new InputError(
          `Cannot choose by cost as "targetSpeedup" is ${targetSpeedup} and a step that trains the cheapest component ` +
            `alone is ${most.toFixed(3)} times as cheap as a whole one: lower it`,
        );
      }
      const first = Math.max(1, Math.ceil(shareOf(alpha, steps)));
      const interval = every ?? Math.max(1, Math.floor(steps / 4));
      const sizes = Object.fromEntries(components.map(({ path, size }) => [path, size]));
      const times = { first, apart: interval, count: Math.floor((steps - first) / interval) };
      return { prices, sizes, times, moments: {}, averages: {}, frozen: {} };
    },
    next: (state, now) => decide(rules, observe(rules, state, now), { before: state.averages, now }),
    frozen: ({ frozen }) => Object.keys(frozen),
    reason: ({ frozen }, path) => ({
      signal: `share of all ${worth}`,
      value: frozen[path],
      threshold: null,
      rule: name,
    }),
  });
}

/** Checks the ranges of options. */
function check(options: CostAwareOptions): void {
  const { targetSpeedup, maxSaving } = options;
  if ((targetSpeedup === undefined) === (maxSaving === undefined)) {
    throw new InputError(
      `Cannot choose by cost as one of "targetSpeedup" and "maxSaving" must be given: got ${
        targetSpeedup === undefined ? "none" : "both"
      }`,
    );
  }
  const within = (name: keyof CostAwareOptions, holds: (value: number) => boolean, rule: string): void => {
    const value = options[name];
    if (value === undefined || holds(value as number)) return;
    throw new InputError(`Cannot choose by cost as "${name}" must be ${rule}: got ${value}`);
  };
  within("targetSpeedup", (value) => value > 1 && value < Infinity, "a number above 1");
  within("maxSaving", (value) => value > 0 && value < 1, "above 0 and below 1");
  within("alpha", (value) => value >= 0 && value <= 1, "a share of all steps, 0 to 1");
  within("every", (value) => Number.isInteger(value) && value >= 1, "a whole number above 0");
  within("weight", (value) => value > 0 && value <= 1, "above 0 and at most 1");
  within("thaw", (value) => value >= 1 && value < Infinity, "a number, 1 or more");
  within("curiosity", (value) => value >= 0 && value < Infinity, "0 or more");
  within("beta1", (value) => value > 0 && value < 1, "above 0 and below 1");
  within("beta2", (value) => value > 0 && value < 1, "above 0 and below 1");
}
