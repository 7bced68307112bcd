/**
 * Freeze policies: plain functions over plain data that decide which components stop training.
 *
 * A policy reads numbers and names components; it never sees a tensor. Policies and wrappers nest in each other, as in
 * `atMost(0.8, closePrefix(smooth(0.1, gradES({ tau: 30 }))))`. Nothing is frozen before the first look. The doc of each function names its source, when to use it and what it
 * costs: `deno doc --filter gradES jsr:@firn/train/policies`.
 *
 * | policy | freezes |
 * | --- | --- |
 * | `gradES()` | each matrix of a layer for good, once its gradient is small (GradES) |
 * | `below(signal, tau)` | what is below a threshold now |
 * | `autoTau(signal)` | what is below a threshold that it finds in the readings of a grace period |
 * | `hysteresis(signal, { low, high })` | what is below a threshold; thaws only above a higher one |
 * | `snr()` | each matrix of a layer for good, once its steps are mostly noise; no threshold to tune |
 * | `costAware({ targetSpeedup })` | what gains least for the FLOPs of training it (after GreenTrainer) |
 * | `auto()` | the lower half; ends training when little is left to gain |
 * | `prefix()` | the layers below the first whose gradient still changes (AutoFreeze) |
 * | `schedule({ first, spacing })` | layer after layer from the bottom, at fixed times (FreezeOut) |
 * | `bottomFreeze(share)`, `topFreeze(share)` | the lowest layers and what is below them, or the highest layers |
 * | `gradientProbe()` | all but the layers of the largest gradients in the first steps (Aletheia) |
 * | `adaGradSelect({ every, share, seed })` | all but the blocks of the largest gradients, or that were chosen most (AdaGradSelect) |
 * | `rotate({ every, active, order })` | all but a few layers, which take turns (BAdam, LISA) |
 * | `randomSubset({ share, every, seed })` | a random share, drawn anew every so many steps (TimelyFreeze) |
 * | `stopAt(step)` | everything, which ends training |
 * | `diminishingReturns()` | nothing; ends training when the steps left can gain little |
 * | `spectralStop()` | nothing; ends training when spectra of weights have settled |
 * | `record(...signals)` | nothing; measures, for the log |
 * | `earlyStopping({ patience, minDelta })` | nothing; ends training by the validation loss, with the best parameters |
 *
 * | wrapper | changes |
 * | --- | --- |
 * | `anyOf(...)`, `allOf(...)` | union and intersection of several policies |
 * | `only(selector, p)`, `except(selector, p)` | which components the policy sees |
 * | `keepActive(selector, p)` | some components never freeze |
 * | `after(alpha, p)` | nothing freezes in a grace period |
 * | `every(n, p)` | the frozen set changes only every n steps |
 * | `planAhead(p)` | the frozen set follows one look later, and is planned while the device works |
 * | `worthwhile(p)` | the frozen set grows only when that saves more time than the change costs |
 * | `smooth(weight, p)` | the policy sees averages |
 * | `patience(k, p)` | a component freezes after k steps in a row |
 * | `sticky(p)` | nothing thaws |
 * | `thaw(p, { count, every, wake, drop })` | what grows in probes thaws (after APF, Egeria) |
 * | `untilFrozen(p)` | training ends when everything that the policy sees is frozen |
 * | `closePrefix(p)` | the frozen set grows to whole layers from the bottom |
 * | `atMost(share, p)` | no more than a share of the model freezes |
 *
 * `bitFit(flatten(params))` trains biases alone; it is the option `trainable` of a training and no policy.
 *
 * `simulate(policy, log)` replays a policy over the log of a run without training.
 *
 * A policy declares its `signals`: `gradNorm`, `gradSquare`, `gradDelta`, `weightDelta`, `benefit`, and the sums of Adam's
 * moments. With `measured` it names the components to measure them for; nothing else is measured. It may also measure
 * frozen components (`probed`), end training (`stopped`), name the step to end with (`best`), and say why a component is
 * frozen (`reason`).
 *
 * ## Add a policy
 *
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { definePolicy } from "@firn/train/policies";
 *
 * // Freezes everything while the loss is below a bound.
 * const whileBelow = (bound: number) =>
 *   definePolicy({
 *     name: `whileBelow(${bound})`,
 *     init: (components) => ({ paths: components.map(({ path }) => path), loss: Infinity }),
 *     next: (state, { loss }) => ({ ...state, loss }),
 *     frozen: ({ paths, loss }) => loss < bound ? paths : [],
 *   });
 *
 * const policy = whileBelow(0.5), path = "layers.0.mlp.up_proj";
 * const start = policy.init([{ path, layer: 0, parameters: [], kind: "linear", size: 4 }], { steps: 100 });
 * const later = policy.next(start, { steps: [10], loss: [0.4], learningRate: [0.1], readings: {} });
 * assertEquals([policy.frozen(start), policy.frozen(later)], [[], [path]]);
 * ```
 *
 * @example Policies and wrappers nest
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { atMost, closePrefix, gradES } from "@firn/train/policies";
 *
 * const policy = atMost(0.8, closePrefix(gradES({ tau: 30 })));
 * assertEquals(
 *   policy.name,
 *   "atMost(0.8 of elements, closePrefix(only(layerLinears, untilFrozen(sticky(after(0.5, below(gradNorm, 30))))), 0.9))",
 * );
 * ```
 *
 * @module
 */

export type {
  AnySignal,
  Component,
  ComponentCost,
  FreezePolicy,
  Json,
  Look,
  Measurable,
  Reason,
  RunInfo,
  Signal,
  SignalDefinition,
  SignalTerms,
} from "../core/policy.ts";
export { defineSignal, type Measured, type OwnSignal } from "../core/train/freeze/define_signal.ts";
export { adaGradSelect, type AdaGradSelectOptions } from "./ada_grad_select.ts";
export { after } from "./after.ts";
export { atMost } from "./at_most.ts";
export { auto, type AutoOptions } from "./auto.ts";
export { autoTau, type AutoTauOptions } from "./auto_tau.ts";
export { below, type BelowOptions, type Normalise } from "./below.ts";
export { bitFit, type BitFitOptions } from "./bit_fit.ts";
export { type Blocks, blocksOf } from "./blocks.ts";
export { bottomFreeze } from "./bottom_freeze.ts";
export { closePrefix } from "./close_prefix.ts";
export { allOf, anyOf } from "./combine.ts";
export { stepCost } from "./cost.ts";
export { costAware, type CostAwareOptions } from "./cost_aware.ts";
export { definePolicy, type PolicyDefinition, type StepLook } from "./define_policy.ts";
export { diminishingReturns, type DiminishingReturnsOptions } from "./diminishing_returns.ts";
export { earlyStopping, type EarlyStoppingOptions } from "./early_stopping.ts";
export { every } from "./every.ts";
export { gradES, type GradESOptions, layerLinears } from "./grad_es.ts";
export { gradientProbe, type GradientProbeOptions } from "./gradient_probe.ts";
export { hysteresis, type HysteresisOptions } from "./hysteresis.ts";
export { keepActive } from "./keep_active.ts";
export type { AdamDecays } from "./moments.ts";
export { patience } from "./patience.ts";
export { planAhead, type PlanAheadOptions } from "./plan_ahead.ts";
export { prefix, type PrefixOptions } from "./prefix.ts";
export { randomSubset, type RandomSubsetOptions } from "./random_subset.ts";
export { record } from "./record.ts";
export { rotate, type RotateOptions } from "./rotate.ts";
export { schedule, type ScheduleOptions } from "./schedule.ts";
export { except, only } from "./select.ts";
export type { Selector } from "./selector.ts";
export { type Saving, simulate, type Simulation } from "./simulate.ts";
export type { SimulatedChange, SimulatedEnding } from "./simulated_course.ts";
export { smooth } from "./smooth.ts";
export { signalToNoise, snr, type SnrOptions } from "./snr.ts";
export { spectralConcentration } from "../core/train/freeze/spectral_concentration.ts";
export { spectralStop, type SpectralStopOptions } from "./spectral_stop.ts";
export { sticky } from "./sticky.ts";
export { stopAt } from "./stop_at.ts";
export { thaw, type ThawOptions } from "./thaw.ts";
export type { Threshold } from "./threshold.ts";
export { topFreeze } from "./top_freeze.ts";
export { untilFrozen } from "./until_frozen.ts";
export { worthwhile, type WorthwhileOptions } from "./worthwhile.ts";
export { type Wrapped, wrapPolicy } from "./wrap_policy.ts";
