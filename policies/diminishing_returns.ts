import { InputError } from "../core/errors.ts";
import type { FreezePolicy } from "../core/policy.ts";
import { addReading, type Average } from "./average.ts";
import { definePolicy } from "./define_policy.ts";
import { shareOf } from "./share_of.ts";

/** Options of {@link diminishingReturns}. */
export interface DiminishingReturnsOptions {
  /** What the remaining steps must be able to gain, as a share of what was gained so far; 0.05 when absent. */
  readonly share?: number;
  /** Share of the planned steps before which training does not end, 0 to 1; 0.5 when absent. */
  readonly alpha?: number;
  /** Share of the planned steps over which gains are averaged, above 0 and at most 1; 0.05 when absent. */
  readonly window?: number;
}

/**
 * Ends training when all steps that are left can gain only a small share of what was gained so far. It freezes nothing.
 *
 * When: the learning rate falls to 0, as by a cosine: the last steps cost as much as others and change little. Plan more steps
 * in return. With a cosine and gradients that stay as large, 0.05 ends training after four fifths of the steps, where the rate
 * is a tenth of its highest. At a constant rate it ends only what converges. Cost: one sum per component and step.
 *
 * The gain of a step is the signal `benefit`, summed over all components that are measured: the first-order change of the loss
 * by the step. The average of the last steps, times the number of steps left, is the most that these can gain while gradients
 * and rate do not grow. Steps without readings count as before.
 *
 * Source: the first-order change of the loss as in Huang et al. (GreenTrainer), arXiv 2309.13192; the comparison of what
 * is left with what was gained is Firn's.
 *
 * @param options Share, grace period, window
 * @returns The policy
 * @throws {InputError} When an option is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { diminishingReturns } from "@firn/train/policies";
 *
 * const policy = diminishingReturns({ share: 0.1, window: 0.1 });
 * const component = { path: "a", layer: 0, parameters: ["a.weight"], kind: "linear", size: 4 } as const;
 * const start = policy.init([component], { steps: 10 });
 * const look = (steps: number[], a: number[]) =>
 *   ({ steps, loss: steps, learningRate: steps, readings: { benefit: { a } } });
 * const five = policy.next(start, look([1, 2, 3, 4, 5], [8, 8, 8, 8, 8]));
 * const six = policy.next(five, look([6], [1])); // 4 steps of 1 are a tenth of 41
 * assertEquals([five, six].map((state) => policy.stopped?.(state, [])), [false, true]);
 * ```
 */
export function diminishingReturns(options: DiminishingReturnsOptions = {}): FreezePolicy {
  const { share = 0.05, alpha = 0.5, window = 0.05 } = options;
  const within = (name: keyof DiminishingReturnsOptions, holds: boolean, rule: string): void => {
    if (holds) return;
    throw new InputError(
      `Cannot judge what is left to gain as "${name}" must be ${rule}: got ${options[name]}`,
    );
  };
  within("share", share > 0 && share < Infinity, "a number above 0");
  within("alpha", alpha >= 0 && alpha <= 1, "a share of all steps, 0 to 1");
  within("window", window > 0 && window <= 1, "above 0 and at most 1");
  return definePolicy({
    name: `diminishingReturns(${share}, alpha ${alpha}, window ${window})`,
    signals: ["benefit"],
    init: (components, { steps }) => ({
      paths: components.map(({ path }) => path),
      steps,
      first: Math.ceil(shareOf(alpha, steps)),
      weight: 2 / (Math.max(1, Math.round(shareOf(window, steps))) + 1),
      gained: 0,
      recent: null as Average | null,
      stops: false as boolean,
    }),
    next(state, { step, read }) {
      const gains = state.paths.map((path) => read("benefit", path)).filter(Number.isFinite);
      if (gains.length === 0 || state.stops) return state;
      const reading = gains.reduce((sum, gain) => sum + gain, 0), { weight } = state;
      const recent = addReading(state.recent ?? undefined, { reading, weight }),
        gained = state.gained + reading;
      const left = Math.max(0, state.steps - step);
      // A warm-up that begins at a rate of 0 has gained nothing yet.
      const stops = step >= state.first && gained > 0 && recent.mean * left <= share * gained;
      return { ...state, recent, gained, stops };
    },
    frozen: () => [],
    stopped: ({ stops }) => stops,
  });
}
