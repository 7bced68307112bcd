import { InputError } from "../core/errors.ts";
import { type AnySignal, type FreezePolicy, signalName } from "../core/policy.ts";
import { addReading, type Average } from "./average.ts";
import { type Normalise, readingLabel } from "./below.ts";
import { definePolicy } from "./define_policy.ts";
import { quantileOf } from "./quantile.ts";
import { shareOf } from "./share_of.ts";

/** Options of {@link autoTau}. */
export interface AutoTauOptions {
  /** Share of the planned steps at whose end the threshold is set; nothing freezes before. 0.5 when absent, as in GradES. */
  readonly alpha?: number;
  /** Which of the readings becomes the threshold, by size: 0 the smallest, 1 the largest; 0.5, the median, when absent. */
  readonly quantile?: number;
  /** Share of the planned steps over which readings are averaged, above 0 and at most 1; 0.05 when absent. */
  readonly window?: number;
  /** What readings are divided by; `none` when absent, as published. */
  readonly normalise?: Normalise;
}

/**
 * Freezes what is below a threshold that it finds by itself, from the readings of the grace period.
 *
 * When: as GradES without a trial run, `gradES()`, which is made of it. A published threshold belongs to one model, batch,
 * task and metric; this one is made of the run's own readings. Cost: that of {@link below}, one sum per component and step.
 *
 * Readings of each component are averaged over a window. At the end of the grace period, `ceil(alpha * T)`, the threshold
 * becomes the quantile of these averages; from the next step on, each component whose average is below it is frozen. Half of
 * the components are, at the start, by default. What is compared is an average, as the threshold is made of averages: a
 * single reading is below by chance. Like {@link below} it has no memory; {@link sticky} freezes for good.
 *
 * Source: the first of the limitations that "GradES", arXiv 2509.01842, names: its threshold is tuned by hand for each model
 * and task. The rule is Firn's.
 *
 * @param signal What to measure
 * @param options Grace period, quantile, window
 * @returns The policy
 * @throws {InputError} When an option is out of its range; during training, when `"lr*size"` meets an optimizer that has
 * no learning rate
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { autoTau } from "@firn/train/policies";
 *
 * const policy = autoTau("gradNorm", { alpha: 0.5, window: 0.25 });
 * const part = (path: string) => ({ path, layer: 0, parameters: [], kind: "linear", size: 4 }) as const;
 * const start = policy.init(["a", "b", "c"].map(part), { steps: 4 });
 * const readings = { gradNorm: { a: [1, 1, 1], b: [2, 2, 2], c: [3, 3, 3] } };
 * const state = policy.next(start, { steps: [1, 2, 3], loss: [3, 2, 1], learningRate: [1, 1, 1], readings });
 * assertEquals(policy.frozen(state), ["a"]); // below the median, 2
 * ```
 */
export function autoTau(signal: AnySignal, options: AutoTauOptions = {}): FreezePolicy {
  const { alpha = 0.5, quantile = 0.5, window = 0.05, normalise = "none" } = options;
  const within = (name: keyof AutoTauOptions, holds: boolean, rule: string): void => {
    if (holds) return;
    throw new InputError(
      `Cannot find a threshold for "${signalName(signal)}" as "${name}" must be ${rule}: got ${
        options[name]
      }`,
    );
  };
  within("alpha", alpha >= 0 && alpha <= 1, "a share of all steps, 0 to 1");
  within("quantile", quantile >= 0 && quantile <= 1, "0 to 1");
  within("window", window > 0 && window <= 1, "above 0 and at most 1");
  const label = readingLabel(signal, normalise);
  const name = `autoTau(${label}, alpha ${alpha}, quantile ${quantile}, window ${window})`;
  return definePolicy({
    name,
    signals: [signal],
    init: (components, { steps }) => ({
      divisors: Object.fromEntries(
        components.map(({ path, size }) => [path, normalise === "none" ? 1 : size]),
      ),
      grace: Math.ceil(shareOf(alpha, steps)),
      weight: 2 / (Math.max(1, Math.round(shareOf(window, steps))) + 1),
      averages: {} as Averages,
      tau: null as number | null,
      frozen: [] as readonly string[],
    }),
    next(state, { step, learningRate, read }) {
      if (normalise === "lr*size" && Number.isNaN(learningRate)) {
        throw new InputError(
          `Cannot normalise "${
            signalName(signal)
          }" of step ${step} by "lr*size" as the optimizer has no learning rate: ` +
            `use "size" or "none"`,
        );
      }
      const rate = normalise === "lr*size" ? learningRate : 1, { divisors, grace, weight } = state;
      const averages = { ...state.averages }, measured: string[] = [];
      for (const [path, divisor] of Object.entries(divisors)) {
        const reading = read(signal, path) / (rate * divisor);
        if (!Number.isFinite(reading)) continue;
        averages[path] = addReading(averages[path], { reading, weight });
        measured.push(path);
      }
      const { tau } = state;
      if (tau === null) {
        const means = Object.values(averages).map(({ mean }) => mean);
        return {
          ...state,
          averages,
          tau: step >= grace && means.length > 0 ? quantileOf(quantile, means) : null,
        };
      }
      return { ...state, averages, frozen: measured.filter((path) => averages[path].mean < tau) };
    },
    frozen: ({ frozen }) => frozen,
    reason: ({ averages, tau }, path) => ({
      signal: label,
      value: averages[path].mean,
      threshold: tau,
      rule: name,
    }),
  });
}

type Averages = { readonly [path: string]: Average };
