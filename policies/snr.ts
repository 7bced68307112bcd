import type { FreezePolicy } from "../core/policy.ts";
import { after } from "./after.ts";
import { definePolicy } from "./define_policy.ts";
import { layerLinears } from "./grad_es.ts";
import { patience } from "./patience.ts";
import { only } from "./select.ts";
import type { Selector } from "./selector.ts";
import { sticky } from "./sticky.ts";

/** Decays of Adam's moments. */
export interface AdamDecays {
  /** Decay of the first moment; 0.9 when absent. */
  readonly beta1?: number;
  /** Decay of the second moment; 0.999 when absent. */
  readonly beta2?: number;
}

/**
 * Signal-to-noise ratio of a component's gradient, from sums of Adam's moments: the mean square of the elements' means over
 * their mean variance.
 *
 * With `R = sum mhat^2 / sum vhat` and its value for pure noise, `r0 = (1-b1)/(1+b1) (1+b1^n)/(1-b1^n)`, it is
 * `(R - r0) / (1 - R)`. Learning rate, layer size and a constant factor of clipping cancel. As v remembers about
 * `1/(1-b2)` steps, a signal that fades is underestimated.
 *
 * Source: Mahsereci et al., "Early Stopping without a Validation Set", arXiv 1703.09580 (the criterion by evidence), here
 * with Adam's moments in place of the batch's own variance.
 *
 * @param sums `first`: `sum m^2`, `second`: `sum v`, both before bias correction; `steps`: since the moments were zero
 * @param decays Of the optimizer
 * @returns The ratio; about 0, either sign, for pure noise; NaN after a single step
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { signalToNoise } from "@firn/train/policies";
 *
 * // After many steps of elements with mean 1 and variance 4: m is the mean and some noise, v the mean square.
 * const first = 1 + 4 * 0.1 / 1.9, second = 1 + 4;
 * assertAlmostEquals(signalToNoise({ first, second, steps: 1e6 }), 1 / 4, 1e-9);
 * ```
 */
export function signalToNoise(
  { first, second, steps }: { readonly first: number; readonly second: number; readonly steps: number },
  { beta1 = 0.9, beta2 = 0.999 }: AdamDecays = {},
): number {
  const left = beta1 ** steps;
  const share = first / (1 - left) ** 2 / (second / (1 - beta2 ** steps));
  const noise = (1 - beta1) / (1 + beta1) * (1 + left) / (1 - left);
  return (share - noise) / (1 - share);
}

/** Options of {@link snr}. */
export interface SnrOptions extends AdamDecays {
  /** Share of its own highest ratio below which a component counts as converged; 0.1 when absent. */
  readonly share?: number;
  /** Weight of the newest ratio in the running average; 0.05 when absent. */
  readonly weight?: number;
  /** Consecutive steps below the share; 20 when absent. */
  readonly patience?: number;
  /** Share of the planned steps in which nothing freezes; 0.25 when absent. */
  readonly alpha?: number;
  /** Which components; {@link layerLinears} when absent. */
  readonly components?: Selector;
}

/**
 * Freezes a component for good once the signal in its gradient has sunk into the noise, measured against the component's own
 * past: no threshold depends on model, batch, task or learning rate. A component whose ratio never rose above zero stays
 * active, as small batches begin there.
 *
 * Needs an optimizer of Adam's kind. The defaults are plausible, not yet tuned on models.
 *
 * Source: the criterion of {@link signalToNoise}; the comparison with the own peak is Firn's.
 *
 * @param options Share, smoothing, patience, decays of the optimizer
 * @returns The policy
 * @throws {RangeError} When an option is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { snr } from "@firn/train/policies";
 *
 * const policy = snr({ patience: 5 });
 * assertEquals(policy.name, "only(layerLinears, sticky(after(0.25, patience(5, belowPeak(0.1, weight 0.05)))))");
 * assertEquals(policy.signals, ["firstMoment", "secondMoment"]);
 * ```
 */
export function snr(options: SnrOptions = {}): FreezePolicy {
  const { share = 0.1, weight = 0.05, patience: k = 20, alpha = 0.25, components = layerLinears } = options;
  return only(components, sticky(after(alpha, patience(k, belowPeak(share, { ...options, weight })))));
}

type Track = { readonly steps: number; readonly ratio: number | null; readonly peak: number };

/** Freezes a component while its averaged ratio is below a share of the highest that it has been. */
function belowPeak(
  share: number,
  { weight, beta1 = 0.9, beta2 = 0.999 }: AdamDecays & { readonly weight: number },
): FreezePolicy {
  const within = (name: string, value: number, holds: boolean): void => {
    if (!holds) {
      throw new RangeError(`Cannot compare ratios as "${name}" must be above 0 and at most 1: got ${value}`);
    }
  };
  within("share", share, share > 0 && share <= 1);
  within("weight", weight, weight > 0 && weight <= 1);
  within("beta1", beta1, beta1 > 0 && beta1 < 1);
  within("beta2", beta2, beta2 > 0 && beta2 < 1);
  /** The first moment is a mean of about so many gradients: before that the ratio says little. */
  const young = Math.ceil(2 / (1 - beta1));
  const start: Track = { steps: 0, ratio: null, peak: 0 };
  const name = `belowPeak(${share}, weight ${weight})`;
  return definePolicy({
    name,
    signals: ["firstMoment", "secondMoment"],
    init: (components): { readonly [path: string]: Track } =>
      Object.fromEntries(components.map(({ path }) => [path, start])),
    next: (tracks, { read }) =>
      Object.fromEntries(
        Object.entries(tracks).map(([path, { steps, ratio, peak }]): [string, Track] => {
          const first = read("firstMoment", path), second = read("secondMoment", path);
          // Not measured: frozen, so that its moments begin anew should it thaw.
          if (!(first >= 0 && second > 0)) return [path, { ...start, peak }];
          const now = steps + 1;
          if (now < young) return [path, { steps: now, ratio, peak }];
          const seen = signalToNoise({ first, second, steps: now }, { beta1, beta2 });
          // Elements that do not vary at all have no ratio.
          if (!Number.isFinite(seen)) return [path, { steps: now, ratio, peak }];
          const average = ratio === null ? seen : ratio + weight * (seen - ratio);
          return [path, { steps: now, ratio: average, peak: Math.max(peak, average) }];
        }),
      ),
    frozen: (tracks) =>
      Object.keys(tracks).filter((path) => {
        const { ratio, peak } = tracks[path];
        return ratio !== null && peak > 0 && ratio < share * peak;
      }),
    reason: (tracks, path) => ({
      signal: "signal to noise",
      value: tracks[path].ratio,
      threshold: share * tracks[path].peak,
      rule: name,
    }),
  });
}
