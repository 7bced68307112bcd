import type { FreezePolicy } from "../core/policy.ts";
import { costOf, pricesOf } from "./cost.ts";
import { type CostState, decide, observe, type Rules } from "./cost_decision.ts";
import { definePolicy } from "./define_policy.ts";
import type { AdamDecays } from "./moments.ts";
import { shareOf } from "./share_of.ts";

/** Options of {@link costAware}: one of `targetSpeedup` and `maxSaving`, when it decides, and what it goes by. */
export interface CostAwareOptions extends AdamDecays {
  /** From the last decision on a step costs at most the FLOPs of one in which everything trains, divided by this; above 1. */
  readonly targetSpeedup?: number;
  /** Freezes what does not pay, and takes away at most this share of the FLOPs of a step; above 0 and below 1. */
  readonly maxSaving?: number;
  /** Share of the planned steps after which the first decision falls, 0 to 1; 0.25 when absent. */
  readonly alpha?: number;
  /** Steps from one decision to the next, and from the last to the end, at least; a quarter of those planned when absent. */
  readonly every?: number;
  /**
   * What a component is worth: the `gain` that is not noise in its gradient, from Adam's moments, or the signal `benefit`,
   * for any optimizer, which counts noise as well; `gain` when absent.
   */
  readonly worth?: "gain" | "benefit";
  /** Weight of the newest reading in the running average, above 0 and at most 1; 0.05 when absent. */
  readonly weight?: number;
  /**
   * What is frozen thaws where it is worth this many times what freezes in its place, 1 or more; never when absent. What is
   * worth nothing stays frozen.
   */
  readonly thaw?: number;
  /** With `thaw`, share by which the remembered worth of a frozen component grows at a decision, 0 or more; 0.1 when absent. */
  readonly curiosity?: number;
}

/**
 * Trains the components that lower the loss most for what they cost, the chain of gradients down to them included.
 *
 * After a grace period, `alpha`, it chooses among all sets of active components, by {@link stepCost}, and again every so
 * many steps. With `targetSpeedup`: of the sets that cost little enough the one that is worth most, and of those that are
 * worth as much the one that costs most. So the speed-up is at least as great as wanted, and greater only where sets
 * between are worth less or there are none: one wide layer at the bottom can be all that makes a step cheap enough. With
 * `maxSaving`: the set that is worth most a FLOP of the step, among those that save no more. Low components have to be
 * worth the `dX` of all that lies above.
 *
 * With `targetSpeedup` the FLOPs to save grow in equal parts from decision to decision: what matters least freezes first,
 * and most of it when the learning rate has fallen. Each decision chooses the set for the whole budget, as worths are then,
 * and freezes of what is not in it a part that saves as much as is due and is worth least. So no part stands in the way of
 * the next, and what is not frozen yet can still be chosen otherwise. What cannot be parted freezes with the first part.
 *
 * A change of the frozen set costs time, and what thaws begins with empty moments. So decisions are few, none falls so
 * late that its set would train for less than `every` steps, and what is frozen stays frozen. With `thaw` it can come back:
 * where its worth, remembered from before, outweighs by that factor what would freeze in its place. What is remembered
 * grows by `curiosity` until it is worth another try; the first reading then takes its place. There are no probe steps: a
 * probe of a low component would cost the chain of gradients that its freezing saves.
 *
 * Worth is a running average, divided by the learning rate, so that what was measured early compares with what is measured
 * now. A `gain` is how much the step lowers the loss to first order by what is not noise in the gradient: of the noise
 * that a small batch is full of, `benefit` counts most, in large matrices above all. A gain takes Adam or AdamW, with
 * these decays, and readings of each step from the first on. Nothing freezes before each component was measured.
 *
 * Where steps overshoot, or all is noise, a gain is below 0. It counts as nothing then, so that nothing freezes for that
 * alone; among sets that are level and cost as much, what is furthest below 0 freezes. A reason gives the share that the
 * component had in all worth when it froze, with its sign, out of the sum of absolute values: near 0 it hardly mattered;
 * below 0 its steps went back and forth; far above 0 the budget left no other set.
 *
 * It reckons with what it is shown. What {@link only} hides stays active and keeps its part of the chain alive.
 *
 * Source: Huang et al., "Towards Green AI in Fine-tuning Large Language Models via Adaptive Backpropagation"
 * (GreenTrainer), arXiv 2309.13192: importance by `g * dW`, a budget of FLOPs, a dynamic programme. Deviations: each
 * component by itself in place of tensors of a layer, gains without noise, or absolute values element by element, in place
 * of their sum, an average over steps in place of one evaluation, a budget that tightens within one set for all of it, and
 * no rounding of costs up to 4000 different ones.
 *
 * @param options Budget, time, worth
 * @returns The policy; its `init` throws a TypeError when a component has no cost, and a RangeError when no step can be
 * as cheap
 * @throws {RangeError} When an option is out of its range
 * @throws {TypeError} When there is not exactly one budget
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
        throw new RangeError(
          `Cannot choose by cost as "targetSpeedup" is ${targetSpeedup} and a step that trains the cheapest component ` +
            `alone is ${most.toFixed(3)} times as cheap as a whole one: lower it`,
        );
      }
      const first = Math.max(1, Math.ceil(shareOf(alpha, steps)));
      const apart = every ?? Math.max(1, Math.floor(steps / 4));
      const sizes = Object.fromEntries(components.map(({ path, size }) => [path, size]));
      const times = { first, apart, count: Math.floor((steps - first) / apart) };
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

/** Fails where an option is out of its range. */
function check(options: CostAwareOptions): void {
  const { targetSpeedup, maxSaving } = options;
  if ((targetSpeedup === undefined) === (maxSaving === undefined)) {
    throw new TypeError(
      `Cannot choose by cost as one of "targetSpeedup" and "maxSaving" must be given: got ${
        targetSpeedup === undefined ? "none" : "both"
      }`,
    );
  }
  const within = (name: keyof CostAwareOptions, holds: (value: number) => boolean, rule: string): void => {
    const value = options[name];
    if (value === undefined || holds(value as number)) return;
    throw new RangeError(`Cannot choose by cost as "${name}" must be ${rule}: got ${value}`);
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
