import type { FreezePolicy } from "../core/policy.ts";
import { activeSets, pathsOf } from "./active_sets.ts";
import { type Average, include } from "./average.ts";
import { costOf, type Priced, pricesOf } from "./cost.ts";
import { definePolicy } from "./define_policy.ts";
import { partOf } from "./part_of.ts";

/** Options of {@link costAware}: one of `targetSpeedup` and `maxSaving`, and how it measures. */
export interface CostAwareOptions {
  /** A step costs at most the FLOPs of one in which everything trains, divided by this; above 1. */
  readonly targetSpeedup?: number;
  /** Freezes what pays, and takes away at most this share of the FLOPs of a step; above 0 and below 1. */
  readonly maxSaving?: number;
  /** Steps from one decision to the next, a whole number above 0; 100 when absent. */
  readonly every?: number;
  /** Weight of the newest benefit in the running average, above 0 and at most 1; 0.05 when absent. */
  readonly weight?: number;
  /** Share by which the remembered benefit of a frozen component grows at each decision, 0 or more; 0.1 when absent. */
  readonly curiosity?: number;
}

/**
 * Trains the components that lower the loss most for what they cost, the chain of gradients down to them included.
 *
 * Every so many steps it chooses anew, among all sets of active components, by {@link stepCost}. With `targetSpeedup`:
 * the one with the most benefit that costs little enough. With `maxSaving`: the one with the most benefit a FLOP of
 * the step, among those that save no more. So low components have to be worth the `dX` of all that lies above.
 *
 * The benefit of a component is the running average of the signal `benefit`, divided by the learning rate, so that what
 * was measured early compares with what is measured now. A frozen component has none: its last one is remembered, and
 * grows by `curiosity` at each decision until it is worth another try; the first reading then takes its place. There are
 * no probe steps: benefit needs the step of the weight itself, and a probe of a low component would cost the chain of
 * gradients that its freezing saves. Nothing freezes before each component was measured once.
 *
 * It reckons with what it is shown. What {@link only} hides stays active and keeps its part of the chain alive.
 *
 * Source: Huang et al., "Towards Green AI in Fine-tuning Large Language Models via Adaptive Backpropagation"
 * (GreenTrainer), arXiv 2309.13192: importance by `g * dW`, a budget of FLOPs, a dynamic programme. Deviations: each
 * component by itself in place of tensors of a layer, the absolute values element by element in place of their sum, an
 * average over steps in place of one evaluation, and no rounding of costs.
 *
 * @param options Budget and time
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
 * const policy = costAware({ targetSpeedup: 1.3, every: 1 });
 * const start = policy.init([0, 1, 2].map(layer), { steps: 10 });
 * const benefit = { 0: [3], 1: [2], 2: [2] };
 * const state = policy.next(start, { steps: [1], loss: [1], learningRate: [0.1], readings: { benefit } });
 * assertEquals(policy.frozen(state), ["0"]); // 8 FLOPs become 6; without "1" or "2" they were 7
 * ```
 */
export function costAware(options: CostAwareOptions): FreezePolicy {
  const { targetSpeedup, maxSaving, every = 100, weight = 0.05, curiosity = 0.1 } = options;
  if ((targetSpeedup === undefined) === (maxSaving === undefined)) {
    throw new TypeError(
      `Cannot choose by cost as one of "targetSpeedup" and "maxSaving" must be given: got ${
        targetSpeedup === undefined ? "none" : "both"
      }`,
    );
  }
  const within = (name: string, holds: boolean, rule: string): void => {
    if (holds) return;
    throw new RangeError(
      `Cannot choose by cost as "${name}" must be ${rule}: got ${options[name as keyof CostAwareOptions]}`,
    );
  };
  if (targetSpeedup !== undefined) {
    within("targetSpeedup", targetSpeedup > 1 && targetSpeedup < Infinity, "a number above 1");
  }
  if (maxSaving !== undefined) within("maxSaving", maxSaving > 0 && maxSaving < 1, "above 0 and below 1");
  within("every", Number.isInteger(every) && every >= 1, "a whole number above 0");
  within("weight", weight > 0 && weight <= 1, "above 0 and at most 1");
  within("curiosity", curiosity >= 0 && curiosity < Infinity, "0 or more");

  const budget = targetSpeedup === undefined ? `maxSaving ${maxSaving}` : `targetSpeedup ${targetSpeedup}`;
  const name = `costAware(${budget}, every ${every}, weight ${weight}, curiosity ${curiosity})`;

  /** The paths of the components to train. */
  function choose(
    prices: readonly Priced[],
    benefits: { readonly [path: string]: number },
  ): readonly string[] {
    const full = costOf(prices, () => true);
    const sets = activeSets(prices, benefits);
    const [allowed, worth] = targetSpeedup === undefined
      ? [
        sets.filter(({ cost }) => full - cost <= partOf(maxSaving!, full)),
        ({ benefit, cost }: typeof sets[number]) => benefit / cost,
      ]
      : [
        sets.filter(({ cost }) => cost <= partOf(1 / targetSpeedup, full)),
        ({ benefit }: typeof sets[number]) => benefit,
      ];
    if (allowed.length === 0) return prices.map(({ path }) => path);
    return pathsOf(allowed.reduce((best, set) => worth(set) > worth(best) ? set : best));
  }

  return definePolicy({
    name,
    signals: ["benefit"],
    init(components) {
      const prices = pricesOf(components), full = costOf(prices, () => true);
      const most = full / Math.min(...prices.map(({ path }) => costOf(prices, (active) => active === path)));
      if (targetSpeedup !== undefined && targetSpeedup > most) {
        throw new RangeError(
          `Cannot choose by cost as "targetSpeedup" is ${targetSpeedup} and a step that trains the cheapest component ` +
            `alone is ${most.toFixed(3)} times as cheap as a whole one: lower it`,
        );
      }
      return { prices, averages: {} as Averages, frozen: {} as Frozen };
    },
    next({ prices, averages, frozen }, { step, learningRate, read }) {
      const rate = Number.isNaN(learningRate) ? 1 : learningRate;
      const measured = prices.flatMap(({ path }) => {
        const reading = read("benefit", path) / rate;
        return Number.isFinite(reading)
          ? [[path, include(averages[path], { reading, weight })] as const]
          : [];
      });
      const known: Averages = { ...averages, ...Object.fromEntries(measured) };
      const ready = prices.every(({ path }) => known[path] !== undefined);
      if (step % every !== 0 || !ready) return { prices, averages: known, frozen };
      const grown = Object.keys(frozen).filter((path) => !measured.some(([seen]) => seen === path))
        .map((path) => [path, { mean: known[path].mean * (1 + curiosity), total: 0 }] as const);
      const next: Averages = { ...known, ...Object.fromEntries(grown) };
      const benefits = Object.fromEntries(prices.map(({ path }) => [path, next[path].mean]));
      const active = new Set(choose(prices, benefits));
      const total = prices.reduce((sum, { path }) => sum + benefits[path], 0);
      const left = prices.filter(({ path }) => !active.has(path))
        .map(({ path }) => [path, total > 0 ? benefits[path] / total : 0] as const);
      return { prices, averages: next, frozen: Object.fromEntries(left) };
    },
    frozen: ({ frozen }) => Object.keys(frozen),
    reason: ({ frozen }, path) => (
      { signal: "share of all benefit", value: frozen[path], threshold: null, rule: name }
    ),
  });
}

type Averages = { readonly [path: string]: Average };

/** Frozen components with the share that they had in all benefit when it was decided. */
type Frozen = { readonly [path: string]: number };
