/**
 * Freeze policies: plain functions over plain data that compose.
 *
 * A policy reads numbers and names components; it never sees a tensor. Compose the ones here, or write one with
 * {@link definePolicy} in about ten lines.
 *
 * @module
 */

export type {
  Component,
  ComponentCost,
  FreezePolicy,
  Json,
  Look,
  Reason,
  RunInfo,
  Signal,
} from "../core/policy.ts";
export { after } from "./after.ts";
export { atMost } from "./at_most.ts";
export { below, type BelowOptions, type Normalise } from "./below.ts";
export { type Blocks, blocksOf } from "./blocks.ts";
export { closePrefix } from "./close_prefix.ts";
export { allOf, anyOf } from "./combine.ts";
export { stepCost } from "./cost.ts";
export { costAware, type CostAwareOptions } from "./cost_aware.ts";
export { definePolicy, type PolicyDefinition, type StepLook } from "./define_policy.ts";
export { earlyStopping, type EarlyStoppingOptions } from "./early_stopping.ts";
export { every } from "./every.ts";
export { gradES, type GradESOptions, layerLinears } from "./grad_es.ts";
export { hysteresis, type HysteresisOptions } from "./hysteresis.ts";
export { keepActive } from "./keep_active.ts";
export type { AdamDecays } from "./moments.ts";
export { patience } from "./patience.ts";
export { prefix, type PrefixOptions } from "./prefix.ts";
export { randomSubset, type RandomSubsetOptions } from "./random_subset.ts";
export { rotate, type RotateOptions } from "./rotate.ts";
export { schedule, type ScheduleOptions } from "./schedule.ts";
export { except, only } from "./select.ts";
export type { Selector } from "./selector.ts";
export { smooth } from "./smooth.ts";
export { signalToNoise, snr, type SnrOptions } from "./snr.ts";
export { sticky } from "./sticky.ts";
export { stopAt } from "./stop_at.ts";
export { thaw, type ThawOptions } from "./thaw.ts";
export type { Threshold } from "./threshold.ts";
export { untilFrozen } from "./until_frozen.ts";
export { type Wrapped, wrapPolicy } from "./wrap_policy.ts";
