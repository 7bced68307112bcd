import type { Component, FreezePolicy } from "../core/policy.ts";
import { after } from "./after.ts";
import { addReading, type Average } from "./average.ts";
import { definePolicy } from "./define_policy.ts";
import { layerLinears } from "./grad_es.ts";
import { nextSquare, noiseShare } from "./moments.ts";
import { only } from "./select.ts";
import type { Selector } from "./selector.ts";
import { untilFrozen } from "./until_frozen.ts";

/** The highest share that a ratio is told of: what falls without noise has one above 1. */
const HIGHEST_SHARE = 0.99;

/**
 * Signal-to-noise ratio of a component's gradient: the mean square of the elements' means over their mean variance.
 *
 * With `R = sum m^2 / sum q`, q an average of `g^2` that remembers as long as `m^2` does, with the decay `b1^2`, and
 * its value for pure noise, `r0 = (1-b1)/(1+b1)`, it is `(R - r0) / (1 - R)`. Of noise `R` is `r0` at every step, also
 * at the first ones and while the noise grows or fades: both weigh the same gradients alike. Adam's own v, which
 * remembers a hundred times longer, would take a gradient that fades for noise. Learning rate, layer size and a constant
 * factor of clipping cancel.
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
export interface SnrOptions {
  /** Share of its own highest benefit below which a component's steps gain too little; 0.1 when absent. */
  readonly share?: number;
  /**
   * Share of the loss that what is frozen could still change in the steps that are left, to first order and as if nothing
   * cancelled; 0.5 when absent.
   */
  readonly left?: number;
  /**
   * Share of the planned steps over which readings are averaged, for half of which a component must be noisy, and from
   * one decision to the next: a change of the frozen set has its price; 0.05 when absent.
   */
  readonly window?: number;
  /** Share of the planned steps in which nothing freezes; 0.25 when absent. */
  readonly alpha?: number;
  /** Share of the planned steps that count for nothing, the steep start of training; 0.1 when absent. */
  readonly watch?: number;
  /** Decay of the optimizer's first moment; 0.9 when absent. */
  readonly beta1?: number;
  /** Decay of the optimizer's second moment; 0.999 when absent. */
  readonly beta2?: number;
  /** Whether training ends when all of the components are frozen; it does when absent. */
  readonly stop?: boolean;
  /** Which components; {@link layerLinears} when absent. */
  readonly components?: Selector;
}

/**
 * Freezes a component for good once its steps are mostly noise and gain little: no threshold depends on model, batch,
 * task, the size of the learning rate or the length of training. Three things must hold, in running averages:
 *
 * - the ratio of {@link signalToNoise} lies below `(1-b1)/(1+b1)`, 1/19 by default: more than half of what moves the
 *   weights, Adam's first moment, is noise. In fine-tuning with small batches that is so nearly from the start, while
 *   the loss still falls: alone it tells nothing of convergence;
 * - the benefit, what a step changes the loss by to first order, lies below a share of the highest that it has been. It
 *   falls as the gradients do, and with the learning rate: at a constant rate only what truly converges freezes; under
 *   a schedule that decays, components freeze when what is left of it is not worth their steps;
 * - its benefit times the steps that are left, with that of all that is frozen, is less than a share of the loss. Those of
 *   the smallest benefit go first. A classifier whose loss is near zero may still halve it where a language model, whose
 *   benefit fell as far, would gain a thousandth: the former trains on.
 *
 * There is no second, higher threshold, as {@link hysteresis} has: the first two must hold in every step of half a window
 * before a component freezes, and what is frozen stays frozen, whatever comes. Put {@link thaw} around it for another
 * chance.
 *
 * It decides once in a window, and waits until what would freeze saves, in the steps that are left, a hundredth of what its
 * components cost in all steps, by their `dW` or, where they have no cost, by their sizes; but for what ends training.
 * Each change of the frozen set costs time.
 *
 * Only matrices of layers freeze unless `components` says otherwise: embedding and norms go on training, so that nothing
 * below a frozen matrix is at rest. With `cachePrefix: true` wrap it in {@link closePrefix}, or nothing is ever kept.
 *
 * Needs an optimizer of Adam's kind. `sum g^2` of a step is found as the difference of two sums of v, so that clipping
 * cancels; where it has fallen below a hundredth of v, float32 does not tell it, and the ratio stays as it was.
 *
 * Source: the criterion of {@link signalToNoise}; the comparisons of benefits are Firn's.
 *
 * @param options Shares, smoothing, grace period, decays of the optimizer
 * @returns The policy
 * @throws {RangeError} When an option is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { snr } from "@firn/train/policies";
 *
 * const policy = snr({ share: 0.2, stop: false });
 * assertEquals(
 *   policy.name,
 *   "only(layerLinears, after(0.1, noisy(0.2, left 0.5, window 0.05, alpha 0.25)))",
 * );
 * assertEquals(policy.signals, ["firstMoment", "secondMoment", "benefit"]);
 * ```
 */
export function snr(options: SnrOptions = {}): FreezePolicy {
  const { share = 0.1, left = 0.5, window = 0.05, alpha = 0.25, watch = 0.1, stop = true } = options;
  const { beta1 = 0.9, beta2 = 0.999 } = options;
  const within = (name: keyof SnrOptions, holds: boolean, rule: string): void => {
    if (holds) return;
    throw new RangeError(`Cannot tell noise from signal as "${name}" must be ${rule}: got ${options[name]}`);
  };
  within("share", share > 0 && share <= 1, "above 0 and at most 1");
  within("left", left > 0 && left < Infinity, "a number above 0");
  within("window", window > 0 && window <= 1, "above 0 and at most 1");
  within("beta1", beta1 > 0 && beta1 < 1, "above 0 and below 1");
  within("beta2", beta2 > 0 && beta2 < 1, "above 0 and below 1");
  within("alpha", alpha >= 0 && alpha <= 1, "0 to 1");
  within("watch", watch >= 0 && watch <= 1, "0 to 1");
  const frozen = after(watch, noisy({ share, left, window, alpha, beta1, beta2 }));
  return only(options.components ?? layerLinears, stop ? untilFrozen(frozen) : frozen);
}

/**
 * `second` is the sum of v at the last step, `square` the sum of q over so many `steps`; `peak` is of the benefit; both
 * conditions have held for `low` steps.
 */
type Track = {
  readonly steps: number;
  readonly second: number | null;
  readonly square: number;
  readonly ratio: Average | null;
  readonly benefit: Average | null;
  readonly peak: number;
  readonly low: number;
};

const START: Track = { steps: 0, second: null, square: 0, ratio: null, benefit: null, peak: 0, low: 0 };

/** Freezes components for good whose averaged ratio is that of noise, and whose benefit is small, as {@link snr} says. */
function noisy(
  { share, left, window, alpha, beta1, beta2 }: Required<
    Pick<SnrOptions, "share" | "left" | "window" | "alpha" | "beta1" | "beta2">
  >,
): FreezePolicy {
  /** The first moment may be older than the average of squares: after so many steps that is forgotten. */
  const young = Math.ceil(2 / (1 - beta1));

  function follow(
    track: Track,
    now: { readonly first: number; readonly second: number; readonly benefit: number },
    span: number,
  ): Track {
    const { first, second } = now, weight = 2 / (span + 1);
    const benefit = addReading(track.benefit ?? undefined, { reading: now.benefit, weight });
    const next = { ...track, second, benefit, peak: Math.max(track.peak, benefit.mean) };
    if (track.second === null) return next;
    const before = { second: track.second, square: track.square };
    const square = nextSquare(before, { second, beta1, beta2 }), steps = track.steps + 1;
    const unknown = steps < young || square < second / 100;
    const ratio = unknown
      ? track.ratio
      : addReading(track.ratio ?? undefined, { reading: signalToNoise({ first, square }, beta1), weight });
    const holds = ratio !== null && ratio.mean < noiseShare(beta1) && benefit.mean < share * next.peak;
    return { ...next, steps, square, ratio, low: holds ? track.low + 1 : 0 };
  }

  const decays = (beta1 === 0.9 ? "" : `, beta1 ${beta1}`) + (beta2 === 0.999 ? "" : `, beta2 ${beta2}`);
  const name = `noisy(${share}, left ${left}, window ${window}, alpha ${alpha}${decays})`;
  return definePolicy({
    name,
    signals: ["firstMoment", "secondMoment", "benefit"],
    init: (components, { steps }) => ({
      steps,
      span: Math.max(1, Math.round(window * steps)),
      loss: null as Average | null,
      savings: savingsOf(components),
      tracks: Object.fromEntries(components.map(({ path }) => [path, START])) as Tracks,
      frozen: {} as Frozen,
    }),
    next(state, { step, loss: reading, look, read }) {
      // The moments are what they were.
      if (look.skipped?.includes(step)) return state;
      const { span, steps } = state, rest = Math.max(0, steps - step);
      const tracks = Object.fromEntries(
        Object.entries(state.tracks).map(([path, track]): [string, Track] => {
          const first = read("firstMoment", path), second = read("secondMoment", path);
          const benefit = read("benefit", path);
          // Not measured: frozen, so that its moments begin anew should it thaw.
          return second > 0 && [first, second, benefit].every(Number.isFinite)
            ? [path, follow(track, { first, second, benefit }, span)]
            : [path, { ...START, peak: track.peak }];
        }),
      );
      const loss = Number.isFinite(reading)
        ? addReading(state.loss ?? undefined, { reading, weight: 2 / (span + 1) })
        : state.loss;
      const due = step % span === 0 && step >= alpha * steps && rest > 0 && loss !== null;
      const frozen = due ? decide(state, { tracks, rest, limit: left * Math.abs(loss.mean) }) : state.frozen;
      return { ...state, loss, tracks, frozen };
    },
    frozen: ({ frozen }) => Object.keys(frozen),
    reason: ({ tracks, frozen }, path) => ({
      signal: "benefit",
      value: frozen[path],
      threshold: share * tracks[path].peak,
      rule: name,
    }),
  });
}

/** Adds those that are noisy, of the smallest benefit first, while what is frozen could change less than the limit. */
function decide(
  { frozen, savings, steps, span }: {
    readonly frozen: Frozen;
    readonly savings: Shares;
    readonly steps: number;
    readonly span: number;
  },
  { tracks, rest, limit }: { readonly tracks: Tracks; readonly rest: number; readonly limit: number },
): Frozen {
  let given = rest * Object.values(frozen).reduce((sum, benefit) => sum + benefit, 0);
  const able = Object.entries(tracks).flatMap(([path, { low, benefit }]) =>
    low >= span / 2 && !Object.hasOwn(frozen, path) ? [[path, benefit!.mean] as const] : []
  );
  const added = able.sort(([, a], [, b]) => a - b).filter(([, benefit]) => {
    given += rest * benefit;
    return given <= limit;
  });
  const next = { ...frozen, ...Object.fromEntries(added) };
  const saved = rest * added.reduce((sum, [path]) => sum + savings[path], 0);
  // When all are frozen training may end.
  return saved >= LEAST_SAVING * steps || Object.keys(next).length === Object.keys(savings).length
    ? next
    : frozen;
}

/** Share of what the components cost in all steps that is worth a change of the frozen set. */
const LEAST_SAVING = 0.01;

/** What each component's gradient costs, as a share of what all of them cost in a step. */
function savingsOf(components: readonly Component[]): Shares {
  const costs = components.map(({ path, size, cost = { forward: size, dX: size, dW: size } }) => ({
    path,
    ...cost,
  }));
  const step = costs.reduce((sum, { forward, dX, dW }) => sum + forward + dX + dW, 0);
  return Object.fromEntries(costs.map(({ path, dW }) => [path, step === 0 ? 0 : dW / step]));
}

/** What is frozen, with its benefit when that was decided. */
type Frozen = { readonly [path: string]: number };

type Shares = { readonly [path: string]: number };

type Tracks = { readonly [path: string]: Track };
