/**
 * The arms of the study that freeze: by a policy, or for good before the first step.
 *
 * @module
 */

import type { Component, FreezePolicy, Json, Signal } from "@firn/train";
import {
  adaGradSelect,
  auto,
  bitFit,
  type Blocks,
  blocksOf,
  costAware,
  definePolicy,
  gradES,
  gradientProbe,
  layerLinears,
  prefix,
  rotate,
  spectralStop,
} from "@firn/train/policies";
import { randomOrder } from "../../policies/random.ts";
import { shareOf } from "../../policies/share_of.ts";
import { moduleOf } from "../../core/train/freeze/components.ts";
import { ALPHA, type Arm, type PlannedRun } from "./study_plan.ts";
import { medianOf } from "./study_statistics.ts";

/** What an arm freezes. */
export interface Freezing {
  /** While it trains; null for nothing. */
  readonly policy: FreezePolicy | null;
  /** Whether a parameter is trained at all. */
  trains(path: string): boolean;
  /** Components of which no parameter is. */
  readonly never: number;
  /** Whether values of the frozen bottom are kept from one epoch to the next. */
  readonly cached: boolean;
}

/** The policy that is put forward, with all its options at their defaults. It was committed before any final seed was run. */
export function primary(): FreezePolicy {
  return auto();
}

/** The state of {@link grace}. */
export type GraceState = {
  readonly paths: readonly string[];
  readonly until: number;
  readonly sums: { readonly [path: string]: readonly [sum: number, count: number] };
  readonly tau: number | null;
  readonly frozen: readonly string[];
};

/** Share of the grace period, at its end, whose readings give tau. */
const LAST = 0.1;

/**
 * GradES that finds its threshold: the median over the layers' matrices of what each read on average in the last tenth of the
 * grace period. So about half of them freeze right after it. The paper chooses tau by hand for each model and task.
 *
 * @param metric The signal that is compared
 * @returns The policy; its state tells tau
 */
export function grace(metric: Signal): FreezePolicy {
  return definePolicy<GraceState>({
    name: `grace(${metric}, ${ALPHA})`,
    signals: [metric],
    measured: (_, components) => components.filter(layerLinears).map(({ path }) => path),
    init: (components, { steps }) => ({
      paths: components.filter(layerLinears).map(({ path }) => path),
      until: Math.ceil(shareOf(ALPHA, steps)),
      sums: {},
      tau: null,
      frozen: [],
    }),
    next(state, { step, read }) {
      const { paths, until, frozen } = state;
      const readings = paths.map((path) => [path, read(metric, path)] as const);
      if (step <= until) {
        if (step <= until - Math.max(1, Math.round(LAST * until))) return state;
        const sums = { ...state.sums };
        for (const [path, value] of readings) {
          const [sum, count] = sums[path] ?? [0, 0];
          // A skipped step has no readings.
          if (Number.isFinite(value)) sums[path] = [sum + value, count + 1];
        }
        return { ...state, sums };
      }
      const tau = state.tau ?? medianOf(Object.values(state.sums).map(([sum, count]) => sum / count));
      const small = readings.filter(([path, value]) => value < tau && !frozen.includes(path));
      return { ...state, tau, frozen: [...frozen, ...small.map(([path]) => path)] };
    },
    frozen: ({ frozen }) => frozen,
    stopped: ({ paths, frozen }) => paths.length > 0 && frozen.length === paths.length,
  });
}

/** The threshold that a policy found; null for a policy that finds none. */
export function tauOf(state: Json): number | null {
  const { tau } = (state ?? {}) as Partial<GraceState>;
  return typeof tau === "number" ? tau : null;
}

/** The metric of the paper for a task: equation 1, and equation 3 for adapters. */
function publishedMetric({ rank }: { readonly rank: number | null }): Signal {
  return rank === null ? "gradDelta" : "gradNorm";
}

/** The components of some parameters, without kinds and costs. */
export function modulesOf(parameters: Iterable<string>): Component[] {
  const modules = new Map<string, string[]>();
  for (const path of parameters) {
    const module = moduleOf(path);
    modules.set(module, [...modules.get(module) ?? [], path]);
  }
  return [...modules].map(([path, parameters]) => {
    const layer = /(?:^|\.)(\d+)(?:\.|$)/.exec(path);
    return { path, parameters, layer: layer === null ? null : Number(layer[1]), kind: "other", size: 0 };
  });
}

/** What lies below the layers, and the lower share of them. */
export function bottomOf({ below, layers }: Blocks, share: number): string[] {
  return [...below, ...layers.slice(0, Math.round(share * layers.length)).flat()];
}

/** As many components as the bottom has, drawn from the layers and what lies below them. */
export function randomTwinOf(blocks: Blocks, { share, seed }: { share: number; seed: number }): string[] {
  const all = bottomOf(blocks, 1), order = randomOrder(all.length, { seed, draw: 0 });
  return order.slice(0, bottomOf(blocks, share).length).map((i) => all[i]);
}

const NOTHING: Freezing = { policy: null, trains: () => true, never: 0, cached: false };
/** A head for classes, which is new. */
const HEAD = /^(score|classifier)\./;

/**
 * What an arm freezes in a run.
 *
 * @param run The run
 * @param options `parameters` that could be trained; `tau` of GradES, which null lets a policy find; steps in a run
 * @returns It
 */
export function freezingOf(
  { arm, task, seed }: PlannedRun,
  { parameters, tau, steps }: {
    readonly parameters: ReadonlyMap<string, { readonly shape: readonly number[] }>;
    readonly tau: number | null;
    readonly steps: number;
  },
): Freezing {
  const blocks = blocksOf(modulesOf(parameters.keys()));
  const by = (policy: FreezePolicy): Freezing => ({ ...NOTHING, policy });
  const only = (trains: Freezing["trains"], cached = false): Freezing => {
    const left = new Set(modulesOf([...parameters.keys()].filter(trains)).map(({ path }) => path));
    return { ...NOTHING, trains, cached, never: modulesOf(parameters.keys()).length - left.size };
  };
  const never = (paths: readonly string[], cached = true): Freezing => {
    const frozen = new Set(paths);
    return only((path) => !frozen.has(moduleOf(path)), cached);
  };
  const graded = (metric: Signal): Freezing =>
    by(tau === null ? grace(metric) : gradES({ tau, alpha: ALPHA, metric }));
  const topOf = (share: number): string[] =>
    blocks.layers.slice(Math.round((1 - share) * blocks.layers.length)).flat();
  const arms: Partial<Record<Arm, () => Freezing>> = {
    "GradES": () => graded(publishedMetric(task)),
    "auto": () => ({ ...by(primary()), cached: true }),
    "bottom 50 %": () => never(bottomOf(blocks, 0.5)),
    "random 50 %": () => never(randomTwinOf(blocks, { share: 0.5, seed }), false),
    "GradES gradNorm": () => graded("gradNorm"),
    "GradES gradDelta": () => graded("gradDelta"),
    "GradES weightDelta": () => graded("weightDelta"),
    "costAware": () => by(costAware({ targetSpeedup: 1.25 })),
    "prefix": () => by(prefix()),
    "bottom 25 %": () => never(bottomOf(blocks, 0.25)),
    "top 25 %": () => never(topOf(0.25), false),
    "top 50 %": () => never(topOf(0.5), false),
    "autoTau": () => by(gradES()),
    "gradientProbe": () => by(gradientProbe()),
    "AdaGradSelect": () => by(adaGradSelect({ every: Math.max(1, Math.round(steps / 10)), seed })),
    "spectral stop": () => by(spectralStop()),
    "rotate": () => by(rotate({ every: Math.max(1, Math.round(steps / 20)), order: "shuffled", seed })),
    "biases and norms": () => only(bitFit(parameters, { norms: true, also: (path) => HEAD.test(path) })),
  };
  return arms[arm]?.() ?? NOTHING;
}
