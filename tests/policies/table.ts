/** The policies that the laws are tested with: every policy and wrapper is in here. */

import type { FreezePolicy } from "../../core/policy.ts";
import {
  adaGradSelect,
  after,
  allOf,
  anyOf,
  atMost,
  auto,
  autoTau,
  below,
  bottomFreeze,
  closePrefix,
  costAware,
  definePolicy,
  diminishingReturns,
  earlyStopping,
  every,
  except,
  gradES,
  gradientProbe,
  hysteresis,
  keepActive,
  only,
  patience,
  planAhead,
  prefix,
  randomSubset,
  rotate,
  schedule,
  smooth,
  snr,
  spectralStop,
  sticky,
  stopAt,
  thaw,
  topFreeze,
  untilFrozen,
  worthwhile,
} from "../../policies/mod.ts";

export const p = below("gradNorm", 0.3);
export const q = patience(2, below("weightDelta", 0.6));
export const r = sticky(below("gradDelta", 0.1, { normalise: "none" }));

/** Shows its whole history, so that any difference in what it was handed is seen. */
export const witness = definePolicy({
  name: "witness",
  signals: ["gradNorm"],
  init: (components) => ({
    paths: components.map((c) => c.path),
    seen: [] as (readonly (number | null)[])[],
  }),
  next: ({ paths, seen }, { step, loss, learningRate, read }) => ({
    paths,
    seen: [...seen, [step, loss, learningRate, ...paths.map((path) => orNull(read("gradNorm", path)))]],
  }),
  frozen: ({ paths, seen }) => paths.filter((_, i) => (seen.at(-1)?.[i + 3] ?? 1) < 0.3),
});

/** What decides by readings. */
export const MEASURING: readonly FreezePolicy[] = [
  p,
  q,
  r,
  witness,
  below("weightDelta", 0.01, { normalise: "size" }),
  below("weightDelta", 0.01, { normalise: "lr*size" }),
  below("gradNorm", { "layers.0.*": 0.2, "*": 0.6 }),
  after(0.4, p),
  after(0.4, patience(3, below("gradNorm", 0.7))),
  patience(3, below("gradNorm", 0.7)),
  anyOf(p, q, r),
  allOf(p, q),
  only("*.q_proj", witness),
  except("*.q_proj", sticky(p)),
  gradES({ tau: 0.5, alpha: 0.25, patience: 2 }),
  gradES({ tau: [[(c) => c.layer === 0, 0.4], ["*", 0.7]], alpha: 0, stop: false }),
  gradES({ alpha: 0.25 }),
  gradES({ alpha: 0, metric: "weightDelta", normalise: "lr*size", patience: 2 }),
  autoTau("benefit", { alpha: 0.3, quantile: 0.8, window: 0.2 }),
  gradientProbe(),
  gradientProbe({ steps: 2, share: 0.25 }),
  adaGradSelect({ every: 3, share: 0.25, seed: 4 }),
  adaGradSelect({ every: 2, explore: 1, epsilon: 0.6, delta: 2, always: (c) => c.layer === null }),
  untilFrozen(sticky(below("gradNorm", 0.7))),
  smooth(0.4, below("gradNorm", 0.4)),
  smooth(0.4, witness),
  hysteresis("gradNorm", { low: 0.3, high: 0.6 }),
  hysteresis("weightDelta", { low: 0.01, high: 0.02, normalise: "lr*size" }),
  every(3, sticky(q)),
  every(4, witness),
  worthwhile(witness, { change: 0.2 }),
  planAhead(witness),
  planAhead(gradES({ tau: 0.5, alpha: 0.2 }), { after: 3 }),
  worthwhile(gradES({ tau: 0.6, alpha: 0.2 }), { change: 0.5, margin: 2 }),
  closePrefix(below("gradNorm", 0.6), { share: 0.4 }),
  atMost(0.4, below("gradNorm", 0.7)),
  atMost(0.4, below("gradNorm", 0.7), { of: "components" }),
  keepActive("layers.1.*", witness),
  prefix({ intervals: 10, percentile: 60 }),
  snr({ alpha: 0.1, watch: 0, window: 0.01, share: 1, left: 1e9, beta1: 0.1, beta2: 0.01 }),
  costAware({ targetSpeedup: 1.3, every: 3, worth: "benefit", thaw: 1 }),
  costAware({ maxSaving: 0.6, every: 1, weight: 0.8, worth: "benefit", thaw: 1.5 }),
  costAware({ targetSpeedup: 1.5, beta1: 0.1, beta2: 0.01 }),
  costAware({ maxSaving: 0.6, every: 2, thaw: 1, curiosity: 0.5, beta1: 0.1, beta2: 0.01 }),
  anyOf(earlyStopping({ patience: 2 }), gradES({ tau: 0.5, alpha: 0.25 })),
  thaw(sticky(p), { every: 2, count: 2, readings: 1, wake: 1.2 }),
  thaw(gradES({ tau: 0.5, alpha: 0.2, components: "*" }), { every: 1, readings: 2, wake: 1.1, drop: 1.5 }),
  thaw(gradES({ alpha: 0.2, components: "*" }), { every: 2, readings: 1, wake: 1.1 }),
  thaw(gradientProbe({ steps: 2 }), { every: 3, readings: 1, wake: 1.1 }),
  thaw(anyOf(p, thaw(sticky(p), { every: 2 })), { every: 3, readings: 1 }),
  atMost(0.5, thaw(sticky(q), { every: 2, readings: 1, drop: 1.2 })),
  keepActive("lm_head", atMost(0.5, closePrefix(every(2, smooth(0.5, r)), { share: 0.3 }))),
];

/** What ends training and freezes nothing. */
export const ENDING: readonly FreezePolicy[] = [
  earlyStopping({ patience: 2 }),
  earlyStopping({ patience: 1, minDelta: 0.2, restoreBest: false }),
  diminishingReturns({ share: 0.2 }),
  spectralStop({ share: 0.9, patience: 1, window: 0.1, alpha: 0.2 }),
];

/** What decides by the step alone. */
export const SCHEDULED: readonly FreezePolicy[] = [
  stopAt(7),
  bottomFreeze(0.5),
  topFreeze(0.5),
  after(0.3, bottomFreeze(1)),
  schedule({ first: 0.5 }),
  schedule({ first: 0.8, spacing: "cubic" }),
  randomSubset({ share: 0.5, every: 3, seed: 1 }),
  rotate({ every: 3 }),
  rotate({ every: 2, active: 3, order: "down" }),
  rotate({ every: 1, active: 2, order: "shuffled", seed: 5 }),
  rotate({ every: 4, order: "random", always: (c) => c.layer === null }),
  after(0.4, rotate({ every: 3 })),
  planAhead(rotate({ every: 2, active: 3 }), { after: 5 }),
  patience(2, randomSubset({ share: 0.5, every: 3 })),
  atMost(0.3, keepActive("*_proj", closePrefix(schedule({ first: 0.2 })))),
];

/** What freezes by the step alone, and ends training by readings. */
const BOTH: readonly FreezePolicy[] = [auto({ layers: 0.75, share: 0.1 })];

export const POLICIES: readonly FreezePolicy[] = [...MEASURING, ...SCHEDULED, ...ENDING, ...BOTH];

function orNull(value: number): number | null {
  return Number.isNaN(value) ? null : value;
}
