import { InputError } from "../core/errors.ts";
import type { Component, FreezePolicy } from "../core/policy.ts";
import { after } from "./after.ts";
import { addReading, type Average } from "./average.ts";
import { definePolicy } from "./define_policy.ts";
import { layerLinears } from "./grad_es.ts";
import { nextSquare, noiseShare } from "./moments.ts";
import { only } from "./select.ts";
import type { Selector } from "./selector.ts";
import { untilFrozen } from "./until_frozen.ts";

/** Upper bound of the share: gradients that fall without noise would exceed 1. */
const HIGHEST_SHARE = 0.99;

/**
 * Signal-to-noise ratio of a component's gradient: the squared means of the elements over their variances, both summed.
 *
 * With `R = sum m^2 / sum q`, where q is an average of `g^2` with the decay `b1^2`, and `r0 = (1-b1)/(1+b1)`, the value
 * of R for pure noise, the ratio is `(R - r0) / (1 - R)`. q remembers as long as `m^2` does, so R is `r0` for noise at
 * every step, even while the noise grows or fades. Adam's v remembers a hundred times longer and would mistake a fading
 * gradient for noise. Learning rate, layer size and a constant factor of clipping cancel.
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
  /** A component's benefit is small below this share of its own highest value; 0.1 when absent. */
  readonly share?: number;
  /**
   * Most of the loss that frozen components could still change in the remaining steps, to first order and without
   * cancellation, as a share; 0.5 when absent.
   */
  readonly left?: number;
  /**
   * Share of the planned steps over which readings are averaged, and between decisions; a component must be noisy for
   * half of it; 0.05 when absent.
   */
  readonly window?: number;
  /** Share of the planned steps in which nothing freezes; 0.25 when absent. */
  readonly alpha?: number;
  /** Share of the planned steps to ignore, the steep start of training; 0.1 when absent. */
  readonly watch?: number;
  /** Decay of the optimizer's first moment; 0.9 when absent. */
  readonly beta1?: number;
  /** Decay of the optimizer's second moment; 0.999 when absent. */
  readonly beta2?: number;
  /** Whether training ends when all of the components are frozen; true when absent. */
  readonly stop?: boolean;
  /** Which components; {@link layerLinears} when absent. */
  readonly components?: Selector;
}

/**
 * Freezes a matrix of a layer for good once its steps are mostly noise and gain little; ends training when all are
 * frozen. No threshold depends on model, batch, task, learning rate or length of training.
 *
 * When: with Adam or AdamW, when no threshold is known. Cost: three sums per matrix and step. It decides once per
 * window, and only if the change saves at least a hundredth of the total cost of its components.
 *
 * A matrix freezes when three conditions hold, in running averages, the first two in every step of half a window:
 *
 * - Its ratio by {@link signalToNoise} is below `(1-b1)/(1+b1)`, 1/19 by default: more than half of Adam's first moment
 *   is noise. In fine-tuning with small batches this is true almost from the start, so it says nothing about
 *   convergence alone.
 * - Its benefit, the first-order change of the loss by a step, is below a share of its highest value so far. The
 *   benefit falls with the gradients and with the learning rate: at a constant rate only what converges freezes; under
 *   a decaying schedule components freeze when the remaining steps are not worth their cost.
 * - Its benefit times the remaining steps, plus that of all frozen components, is below a share of the loss. Components
 *   of the smallest benefit go first. A classifier whose loss is near zero trains on, where a language model would gain
 *   little.
 *
 * What is frozen stays frozen; put {@link thaw} around the policy for a second chance. Embedding and norms keep
 * training, so the chain of gradients reaches the bottom: with `cachePrefix: true` wrap the policy in {@link
 * closePrefix}. Clipping cancels, as `sum g^2` is the difference of two sums of v; when it is below a hundredth of v,
 * float32 cannot resolve it and the ratio keeps its last value.
 *
 * Source: the criterion of {@link signalToNoise}; the comparisons of benefits are Firn's.
 *
 * @param options Shares, smoothing, grace period, decays of the optimizer
 * @returns The policy
 * @throws {InputError} When an option is out of its range
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
    throw new InputError(`Cannot tell noise from signal as "${name}" must be ${rule}: got ${options[name]}`);
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
 * What is known of a component: `second` is the sum of v at the last step, `square` the sum of q after `steps` steps,
 * `peak` the highest benefit; the first two conditions have held for `low` steps.
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

/** Freezes noisy components of small benefit for good, as {@link snr} describes. */
function noisy(
  { share, left, window, alpha, beta1, beta2 }: Required<
    Pick<SnrOptions, "share" | "left" | "window" | "alpha" | "beta1" | "beta2">
  >,
): FreezePolicy {
  /** The first moment may be older than the average of squares; after this many steps it has forgotten that. */
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
      // A skipped step leaves the moments unchanged.
      if (look.skipped?.includes(step)) return state;
      const { span, steps } = state, rest = Math.max(0, steps - step);
      const tracks = Object.fromEntries(
        Object.entries(state.tracks).map(([path, track]): [string, Track] => {
          const first = read("firstMoment", path), second = read("secondMoment", path);
          const benefit = read("benefit", path);
          // A component that is not measured is frozen: its moments would start anew.
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

/** Freezes noisy components, those of the smallest benefit first, while all that is frozen could change less than the limit. */
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
  // A small saving is enough if it freezes the last component, as that may end training.
  return saved >= LEAST_SAVING * steps || Object.keys(next).length === Object.keys(savings).length
    ? next
    : frozen;
}

/** Least saving that is worth a change of the frozen set, as a share of the cost of the components in all steps. */
const LEAST_SAVING = 0.01;

/** The cost of each component's gradient, as a share of the cost of all in a step. */
function savingsOf(components: readonly Component[]): Shares {
  const costs = components.map(({ path, size, cost = { forward: size, dX: size, dW: size } }) => ({
    path,
    ...cost,
  }));
  const step = costs.reduce((sum, { forward, dX, dW }) => sum + forward + dX + dW, 0);
  return Object.fromEntries(costs.map(({ path, dW }) => [path, step === 0 ? 0 : dW / step]));
}

/** Frozen components, each with its benefit when it froze. */
type Frozen = { readonly [path: string]: number };

type Shares = { readonly [path: string]: number };

type Tracks = { readonly [path: string]: Track };
