/**
 * Which runs the comparison of policies consists of: every policy beside the honest baselines, seed by seed.
 *
 * @module
 */

import { InputError } from "@firn/train";
import { definePolicy, earlyStopping, layerLinears, stopAt } from "@firn/train/policies";
import type { Component, Signal } from "@firn/train";
import { type Candidate, choiceOf, type PolicyRun, randomTwin } from "./policies_list.ts";
import type { Run, Runner, RunSpec } from "./policies_run.ts";

/** What to compare. */
export interface StudyOptions {
  readonly candidates: readonly Candidate[];
  /** Runs of each, from seed 0 on. */
  readonly seeds: number;
  /** Planned steps, T. */
  readonly steps: number;
  /** Share of the steps in which GradES freezes nothing, and after which the baseline stops. */
  readonly alpha: number;
  readonly lookEvery: number;
  /** Seconds after which no run begins; null for no end. */
  readonly limit: number | null;
  /** Told of each run. */
  readonly onRun: (run: Run) => Promise<void> | void;
}

/** How a threshold was chosen: by readings, before any result was seen. */
export interface Threshold {
  readonly signal: Signal;
  readonly tau: number;
  /** Step up to which readings were averaged, and over how many steps. */
  readonly step: number;
  readonly over: number;
  /** Components whose average lay below it, and how many there were. */
  readonly below: number;
  readonly of: number;
}

/** Whole looks, one at least. */
function wholeLooks(steps: number, lookEvery: number): number {
  return Math.max(1, Math.round(steps / lookEvery)) * lookEvery;
}

/**
 * Finds thresholds for GradES without a look at any result: on seed 0, training with the schedule of all T steps goes to
 * the end of the grace period and no further; tau is the median over the layers' matrices of what each read on average in
 * the last tenth of it. So about half of them freeze soon after.
 *
 * @param runner Trains
 * @param signals What to find thresholds for
 * @param options Length, grace period
 * @returns The thresholds
 */
export async function probe(
  runner: Runner,
  signals: readonly Signal[],
  { steps, alpha, lookEvery }: Pick<StudyOptions, "steps" | "alpha" | "lookEvery">,
): Promise<Threshold[]> {
  if (signals.length === 0) return [];
  const end = Math.min(steps, wholeLooks(alpha * steps, lookEvery));
  const over = Math.min(end, Math.max(lookEvery, Math.round(end / 10)));
  const means = new Map<string, Mean>();
  let linears: readonly Component[] = [];
  const policy = definePolicy({
    name: `probe(${signals.join(", ")}, until ${end})`,
    signals,
    init(components) {
      linears = components.filter(layerLinears);
      means.clear();
      return { step: 0, paths: components.map(({ path }) => path) };
    },
    next(state, { step, read }) {
      if (step > end - over && step <= end) {
        for (const { path } of linears) {
          for (const signal of signals) {
            const key = `${signal} ${path}`, reading = read(signal, path);
            const { sum, count } = means.get(key) ?? { sum: 0, count: 0 };
            // A skipped step has no readings.
            if (Number.isFinite(reading)) means.set(key, { sum: sum + reading, count: count + 1 });
          }
        }
      }
      return { ...state, step };
    },
    frozen: ({ step, paths }) => step >= end ? paths : [],
  });
  await runner.run({ label: "probe", steps, seed: 0, policy, once: true });
  return signals.map((signal) => {
    const values = linears.map(({ path }) => means.get(`${signal} ${path}`)!)
      .map(({ sum, count }) => sum / count).toSorted((a, b) => a - b);
    const middle = values.length >> 1;
    // Between two readings, so that none is equal to it.
    const tau = Number(((values[middle - 1] + values[middle]) / 2).toPrecision(4));
    return { signal, tau, step: end, over, below: values.filter((v) => v < tau).length, of: values.length };
  });
}

interface Mean {
  readonly sum: number;
  readonly count: number;
}

/** Share of the time that is kept for what cannot be foreseen, such as kernels that a frozen set is the first to need. */
const SPARE = 0.2;
/** Looks that a run has at least. */
const FEWEST = 4;

/**
 * Shortens the runs so that all seeds end within a limit.
 *
 * @param options Planned steps, and seconds of a step and of what a run takes beside its steps
 * @returns The steps, whole looks, no more than planned
 * @throws {InputError} When not even short runs fit
 */
export function fittingSteps(
  { steps, seeds, policies, lookEvery, limit, perStep, perRun }:
    & Pick<StudyOptions, "steps" | "seeds" | "lookEvery">
    & {
      readonly policies: number;
      readonly limit: number;
      readonly perStep: number;
      readonly perRun: number;
    },
): number {
  // Per seed: full, early stopping, two halves; each policy with three or four more, which are seldom all of full length.
  const lengths = seeds * (3 + 3 * policies) + 1, runs = seeds * (4 + 3.5 * policies) + 1;
  const fitting = (limit * (1 - SPARE) - runs * perRun) / (lengths * perStep);
  const found = Math.min(steps, Math.floor(fitting / lookEvery) * lookEvery);
  if (found >= Math.min(steps, FEWEST * lookEvery)) return found;
  const needed = (runs * perRun + lengths * perStep * FEWEST * lookEvery) / (1 - SPARE);
  throw new InputError(
    `Cannot make ${
      Math.floor(runs)
    } runs within the limit as a run must have ${FEWEST} looks of ${lookEvery} steps: ` +
      `there are ${limit.toFixed(0)} seconds; take --limit ${
        Math.ceil(needed)
      }, fewer --policies or a smaller --watch`,
  );
}

/** How a run without freezing is called that takes part of the steps. */
const share = (alpha: number): string => `${Number((100 * alpha).toPrecision(3))} %`;

/**
 * Runs everything, seed by seed, so that a drift of the device hits all alike and an interrupted study has whole seeds.
 *
 * For each seed: full length; a run that stops at alpha T; one of that length with a schedule of its own; early stopping;
 * each policy, and after it a random twin, a run without freezing of as many FLOPs, and one of as many steps where the
 * policy ended before T. The last three depend on what the policy did with that seed. Equal runs are run once.
 *
 * @param runner Trains
 * @param options What to compare
 * @param thresholds From {@link probe}
 * @returns Why it ended early; null when all is done
 */
export async function study(
  runner: Runner,
  options: StudyOptions,
  thresholds: readonly Threshold[],
): Promise<string | null> {
  const { candidates, seeds, steps, alpha, lookEvery, limit, onRun } = options;
  const began = performance.now();
  const half = Math.min(steps, wholeLooks(alpha * steps, lookEvery));
  const tau: PolicyRun["tau"] = Object.fromEntries(thresholds.map(({ signal, tau }) => [signal, tau]));
  let longest = 0;

  for (let seed = 0; seed < seeds; seed++) {
    const plain = new Map<number, Run>();
    /** Runs, or reports a run that was taken before under another name; false when there is no time. */
    const take = async (spec: Omit<RunSpec, "seed">): Promise<Run | null> => {
      const bare = spec.policy === undefined && spec.stopping === undefined;
      const known = bare ? plain.get(spec.steps) : undefined;
      const spent = (performance.now() - began) / 1000;
      if (known === undefined && limit !== null && spent + longest > limit) return null;
      const run = known === undefined ? await runner.run({ ...spec, seed }) : { ...known, label: spec.label };
      longest = Math.max(longest, (performance.now() - began) / 1000 - spent);
      if (bare) plain.set(spec.steps, run);
      await onRun(run);
      return run;
    };
    const baselines: (() => Promise<boolean>)[] = [
      async () => await take({ label: "full", steps }) !== null,
      async () => await take({ label: `stop at ${share(alpha)}`, steps, policy: stopAt(half) }) !== null,
      async () => await take({ label: `${share(alpha)} of the steps`, steps: half }) !== null,
      async () => await take({ label: "early stopping", steps, stopping: earlyStopping() }) !== null,
    ];
    const compared = candidates.map((candidate) => async (): Promise<boolean> => {
      const { label } = candidate;
      const run = await take({ label, steps, policy: candidate.make({ steps, alpha, seed, tau }) });
      if (run === null) return false;
      for (const spec of twinsOf(run, { runner, options, seed })) {
        if (await take(spec) === null) return false;
      }
      return true;
    });
    // The first runs, from which FLOPs of a step are known, are the same; then each seed begins elsewhere.
    const [full, ...others] = [...baselines, ...compared];
    const at = seed % others.length;
    for (const next of [full, ...others.slice(at), ...others.slice(0, at)]) {
      if (await next()) continue;
      return `the limit of ${limit} seconds ended it in seed ${seed}: seeds before it are whole`;
    }
  }
  return null;
}

/** What a run is held against, given what it did. */
export function twinsOf(
  run: Run,
  { runner, options: { steps, lookEvery }, seed }: {
    readonly runner: Pick<Runner, "components" | "stepFlops">;
    readonly options: Pick<StudyOptions, "steps" | "lookEvery">;
    readonly seed: number;
  },
): Omit<RunSpec, "seed">[] {
  const { label, changes } = run;
  const specs: Omit<RunSpec, "seed">[] = [];
  if (changes.some(({ frozen }) => frozen > 0)) {
    const among = choiceOf(run.everFrozen, runner.components());
    specs.push({
      label: `${label}: random twin`,
      steps,
      policy: randomTwin(changes, { among, seed }),
      once: true,
    });
  }
  const alike = Math.min(steps, wholeLooks(run.flops / runner.stepFlops(), lookEvery));
  specs.push({ label: `${label}: same FLOPs`, steps: alike });
  if (run.steps < steps) specs.push({ label: `${label}: same steps`, steps: run.steps });
  return specs;
}
