import type { FreezePolicy } from "../core/policy.ts";
import { after } from "./after.ts";
import { type Average, include } from "./average.ts";
import { allOf } from "./combine.ts";
import { definePolicy } from "./define_policy.ts";
import { layerLinears } from "./grad_es.ts";
import { type AdamDecays, nextSquare, noiseShare } from "./moments.ts";
import { patience } from "./patience.ts";
import { only } from "./select.ts";
import type { Selector } from "./selector.ts";
import { sticky } from "./sticky.ts";
import { stopAt } from "./stop_at.ts";

/** The highest share that a ratio is told of: what falls without noise has one above 1. */
const HIGHEST_SHARE = 0.99;

/**
 * Signal-to-noise ratio of a component's gradient: the mean square of the elements' means over their mean variance.
 *
 * With `R = sum m^2 / sum q`, q an average of `g^2` that remembers as long as `m^2` does, with the decay `b1^2`, and its value for
 * pure noise, `r0 = (1-b1)/(1+b1)`, it is `(R - r0) / (1 - R)`. Of noise `R` is `r0` at every step, also at the first
 * ones and while the noise grows or fades: both weigh the same gradients alike. Adam's own v, which remembers a hundred
 * times longer, would take a gradient that fades for noise. Learning rate, layer size and a constant factor of clipping cancel.
 *
 * Source: Mahsereci et al., "Early Stopping without a Validation Set", arXiv 1703.09580 (the criterion by evidence), here
 * with averages over steps in place of the batch's own variance.
 *
 * @param sums `first`: `sum m^2` of Adam's moment before bias correction; `square`: `sum q`
 * @param beta1 Decay of the first moment; 0.9 when absent
 * @returns The ratio, at most about 94; about 0, either sign, for pure noise
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { signalToNoise } from "@firn/train/policies";
 *
 * // After many steps of elements with mean 1 and variance 4: m is the mean and some noise, q the mean square.
 * const first = 1 + 4 * 0.1 / 1.9, square = 1 + 4;
 * assertAlmostEquals(signalToNoise({ first, square }), 1 / 4, 1e-9);
 * ```
 */
export function signalToNoise(
  { first, square }: { readonly first: number; readonly square: number },
  beta1 = 0.9,
): number {
  const share = Math.min(first / square, HIGHEST_SHARE);
  return (share - noiseShare(beta1)) / (1 - share);
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
  /** Share of the planned steps that count for nothing, the steep start of training; 0.1 when absent. */
  readonly watch?: number;
  /** Which components; {@link layerLinears} when absent. */
  readonly components?: Selector;
}

/**
 * Freezes a component for good once the signal in its gradient has sunk into the noise: no threshold depends on model, batch,
 * task or learning rate. Two things must hold, in the running average:
 *
 * - the ratio of {@link signalToNoise} lies below a share of the highest that it has been. Small batches begin low, and
 *   a component whose ratio never clearly rose above zero, by twice its own standard deviation, stays active;
 * - it lies below `(1-b1)/(1+b1)`, 1/19 by default: more than half of what moves the weights, Adam's first moment, is noise.
 *
 * Needs an optimizer of Adam's kind. `sum g^2` of a step is found as the difference of two sums of v, so that clipping
 * cancels; where it has fallen below a hundredth of v, float32 does not tell it, and the ratio stays as it was. Ratios of
 * the steep start of training, which nothing later reaches, do not count (`watch`); those of the rest of the grace
 * period do. The defaults are plausible, not yet tuned on models.
 *
 * Source: the criterion of {@link signalToNoise}; both comparisons are Firn's.
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
 * assertEquals(
 *   policy.name,
 *   "only(layerLinears, sticky(allOf(after(0.1, patience(5, belowPeak(0.1, weight 0.05))), after(0.25, stopAt(1)))))",
 * );
 * assertEquals(policy.signals, ["firstMoment", "secondMoment"]);
 * ```
 */
export function snr(options: SnrOptions = {}): FreezePolicy {
  const { share = 0.1, weight = 0.05, patience: k = 20, alpha = 0.25, watch = 0.1 } = options;
  const low = after(watch, patience(k, belowPeak(share, { ...options, weight })));
  return only(options.components ?? layerLinears, sticky(allOf(low, after(alpha, stopAt(1)))));
}

/** `second` is the sum of v at the last step, `square` the sum of q over so many `steps`. */
type Track = {
  readonly steps: number;
  readonly second: number | null;
  readonly square: number;
  readonly ratio: Average | null;
  /** Of the squared distance of a ratio from the average before it. */
  readonly spread: Average | null;
  readonly peak: number;
};

const START: Track = { steps: 0, second: null, square: 0, ratio: null, spread: null, peak: 0 };

/** Freezes a component while its averaged ratio is below a share of the highest that it has been, and mostly noise. */
function belowPeak(
  share: number,
  { weight, beta1 = 0.9, beta2 = 0.999 }: AdamDecays & { readonly weight: number },
): FreezePolicy {
  const within = (name: string, value: number, holds: boolean): void => {
    if (holds) return;
    throw new RangeError(`Cannot compare ratios as "${name}" must be above 0 and at most 1: got ${value}`);
  };
  within("share", share, share > 0 && share <= 1);
  within("weight", weight, weight > 0 && weight <= 1);
  within("beta1", beta1, beta1 > 0 && beta1 < 1);
  within("beta2", beta2, beta2 > 0 && beta2 < 1);
  /** The first moment may be older than the average of squares: after so many steps that is forgotten. */
  const young = Math.ceil(2 / (1 - beta1));
  const limitOf = ({ peak }: Track): number => Math.min(share * peak, noiseShare(beta1));

  function follow(
    track: Track,
    { first, second }: { readonly first: number; readonly second: number },
  ): Track {
    const { second: before, steps: past } = track;
    if (before === null) return { ...track, second };
    const square = nextSquare({ second: before, square: track.square }, { second, beta1, beta2 });
    const steps = past + 1;
    const next = { ...track, steps, second, square };
    if (steps < young || square < second / 100) return next;
    const seen = signalToNoise({ first, square }, beta1);
    const ratio = include(track.ratio ?? undefined, { reading: seen, weight });
    if (track.ratio === null) return { ...next, ratio };
    const spread = include(track.spread ?? undefined, { reading: (seen - track.ratio.mean) ** 2, weight });
    const risen = spread.total > 0.8 && ratio.mean > 2 * Math.sqrt(spread.mean);
    return { ...next, ratio, spread, peak: risen ? Math.max(track.peak, ratio.mean) : track.peak };
  }

  const name = `belowPeak(${share}, weight ${weight})`;
  return definePolicy({
    name,
    signals: ["firstMoment", "secondMoment"],
    init: (components): { readonly [path: string]: Track } =>
      Object.fromEntries(components.map(({ path }) => [path, START])),
    next: (tracks, { read }) =>
      Object.fromEntries(
        Object.entries(tracks).map(([path, track]): [string, Track] => {
          const first = read("firstMoment", path), second = read("secondMoment", path);
          // Not measured: frozen, so that its moments begin anew should it thaw.
          return [
            path,
            first >= 0 && second > 0 ? follow(track, { first, second }) : { ...START, peak: track.peak },
          ];
        }),
      ),
    frozen: (tracks) =>
      Object.keys(tracks).filter((path) => {
        const { ratio, peak } = tracks[path];
        return ratio !== null && peak > 0 && ratio.mean < limitOf(tracks[path]);
      }),
    reason: (tracks, path) => (
      {
        signal: "signal to noise",
        value: tracks[path].ratio!.mean,
        threshold: limitOf(tracks[path]),
        rule: name,
      }
    ),
  });
}
