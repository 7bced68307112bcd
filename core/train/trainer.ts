/**
 * What all runs of one training share: its definition, the recorded step, and caches.
 *
 * @module
 */

import type { FreezePolicy } from "../policy.ts";
import { countOf, type Loss } from "../models/loss.ts";
import type { Gpu } from "../runtime/device.ts";
import type { Spec } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import type { Leaves, Path, TensorTree, Tree } from "../tree.ts";
import { findComponents } from "./freeze/components.ts";
import { type PrefixCache, prefixCache } from "./freeze/prefix_cache.ts";
import { type StepClock, stepClock } from "./freeze/step_clock.ts";
import { measuredSignals, signalsOf, withMoments } from "./freeze/signals.ts";
import { LOOK_EVERY, memoryLimit, THAW_WARMUP } from "./options.ts";
import { settingsOf, type TrainingSettings } from "./settings.ts";
import { bestWeightSpecs } from "./state/best_weights.ts";
import { type GoodStates, goodStates } from "./state/good_states.ts";
import { adjustLeaves } from "./state/leaves.ts";
import { type Run, type RunRegistry, runRegistry } from "./state/run.ts";
import type { StateSpec } from "./state/specs.ts";
import { type StepCompiler, stepCompiler } from "./step/compile.ts";
import {
  activePaths,
  stateSpecsFor,
  type StepDefinition,
  type StepRequest,
  traceLoss,
} from "./step/definition.ts";
import { type StepExecutor, stepExecutor } from "./step/executor.ts";
import { type Validator, validatorOf } from "./step/validation.ts";
import type { StepMemory } from "./memory.ts";
import type { Ending, TrainingOptions } from "./types.ts";

/** A training. What belongs to one run is in a {@link Run}, which functions pass on. */
export interface Trainer<P extends TensorTree> {
  readonly gpu: Gpu;
  readonly definition: StepDefinition;
  readonly policy: FreezePolicy | undefined;
  /** Planned steps. */
  readonly steps: number;
  /** What its runs have in common. */
  readonly settings: TrainingSettings;
  /** Plans of steps. */
  readonly compiler: StepCompiler;
  /** The recorded step. */
  readonly executor: StepExecutor;
  /** The cached prefix; null without `cachePrefix`. */
  readonly cache: PrefixCache | null;
  /** The recorded validation; null without validation batches. */
  readonly validator: Validator<P> | null;
  /** Copies of good states; none but with `nonFinite: "rollback"`. */
  readonly good: GoodStates<P>;
  /** Which run a state belongs to. */
  readonly runs: RunRegistry;
  /** Components and measured signals, by layout of the parameters. */
  readonly models: Map<string, Pick<Run, "components" | "isMeasured">>;
  /** The parameters that a run began with, by its owner, until its first look: errors name one that is not finite. */
  readonly given: WeakMap<object, Leaves>;
  /** How long steps take. */
  readonly clock: StepClock;
  /** Active parameters of a frozen set. */
  readonly activePaths: (run: Run, frozen: readonly Path[]) => readonly Path[];
  /** Run and batch of the last requested step, which `components` and `costOf` describe. */
  readonly last: { request: Pick<StepRequest, "run" | "batch"> | null; memory: StepMemory | null };
}

/** Makes a training of checked options. */
export function newTrainer<P extends TensorTree, B extends TensorTree>(
  gpu: Gpu,
  loss: Loss<P, B>,
  options: TrainingOptions<B>,
): Trainer<P> {
  const { steps, policy, ranks = null, exchange, cachePrefix = false } = options;
  const optimizer = withMoments(options.optimizer, policy);
  const cache = cachePrefix === false ? null : prefixCache(gpu, cachePrefix);
  const { metrics } = loss;
  const averages = exchange?.of === "parameters" ? exchange.open(gpu, { ranks, optimizer }) : null;
  const definition: StepDefinition = {
    ...metrics !== undefined && {
      metrics: {
        names: metrics.names,
        compute: (params: Tree, batch: Tree) =>
          metrics.compute(params as TensorTree as P, batch as TensorTree as B, { training: true }),
      },
    },
    count: (batch: Tree) => countOf(loss, batch as TensorTree as B),
    counts: loss.count !== undefined,
    loss: (params: Tree, batch: Tree) =>
      loss(params as TensorTree as P, batch as TensorTree as B, { training: true }),
    optimizer,
    signals: signalsOf(policy, optimizer),
    trainable: options.trainable ?? loss.trainable ?? (() => true),
    lookEvery: options.lookEvery ?? LOOK_EVERY,
    thawWarmup: options.thawWarmup ?? THAW_WARMUP,
    precision: options.precision ?? "f32",
    cachePrefix: cache !== null,
    keepsBest: policy?.best !== undefined,
    accumulate: options.accumulate ?? 1,
    draws: steps * (options.accumulate ?? 1) * (ranks?.size ?? 1),
    together: ranks,
    ranks: averages === null ? ranks : null,
    averages,
    nonFinite: options.nonFinite ?? "stop",
    memory: memoryLimit(options),
  };
  return {
    gpu,
    definition,
    policy,
    steps,
    settings: settingsOf({ ...options, optimizer }, { ...loss, exchange: averages?.name ?? null }),
    compiler: stepCompiler(gpu, definition),
    executor: stepExecutor(gpu, { ...definition, cache }),
    cache,
    validator: validatorOf(gpu, loss, options),
    good: goodStates(gpu),
    runs: runRegistry(),
    models: new Map(),
    given: new WeakMap(),
    clock: stepClock(),
    activePaths: memoizedActivePaths(definition),
    last: { request: null, memory: null },
  };
}

/** {@link activePaths} with a memory of the last answer, which holds for all steps between two changes. */
function memoizedActivePaths(definition: StepDefinition): Trainer<TensorTree>["activePaths"] {
  let last: { layout: string; frozen: readonly Path[]; paths: readonly Path[] } | null = null;
  return (run, frozen) => {
    if (last === null || last.frozen !== frozen || last.layout !== run.layout) {
      last = { layout: run.layout, frozen, paths: activePaths(definition, { run, frozen }) };
    }
    return last.paths;
  };
}

/**
 * Finds the components of a model in the graph of its loss, and asks the policy what to measure of them.
 *
 * @param trainer The training
 * @param request A run, and its first batch
 * @returns The run with its components
 */
export function withComponents<P extends TensorTree>(
  { definition, policy, models }: Trainer<P>,
  { run, batch }: Pick<StepRequest, "run" | "batch">,
): Run {
  if (run.components.length > 0) return run;
  let found = models.get(run.layout);
  if (found === undefined) {
    const { loss, leaves } = traceLoss(definition, { run, batch });
    const components = findComponents(loss, { leaves, trainable: definition.trainable });
    models.set(run.layout, found = { components, isMeasured: measuredSignals(policy, components) });
  }
  return { ...run, ...found };
}

/**
 * Specs of the leaves that a state needs: state of the active parameters, and the copies of the best weights.
 *
 * @param trainer The training
 * @param options The run, the frozen set, and the leaves so far
 * @returns Specs by path
 */
export function neededLeaves<P extends TensorTree>(
  { definition }: Trainer<P>,
  { run, frozen, leaves }: {
    readonly run: Run;
    readonly frozen: readonly Path[];
    readonly leaves: ReadonlyMap<Path, Spec>;
  },
): Map<Path, StateSpec> {
  return new Map<Path, StateSpec>([
    ...stateSpecsFor(definition, { run, frozen }),
    ...bestWeightSpecs(leaves, run.params),
  ]);
}

/** The leaves of a frozen set, made from the leaves so far. */
export function leavesFor<P extends TensorTree>(
  trainer: Trainer<P>,
  options: {
    readonly run: Run;
    readonly frozen: readonly Path[];
    readonly leaves: Leaves;
    /** All parameters. */
    readonly params: Leaves;
    readonly step: number;
  },
): Map<Path, Tensor> {
  return adjustLeaves(trainer.gpu, { ...options, wanted: neededLeaves(trainer, options) });
}

/** Why training ends after a step; null when it goes on. */
export function reasonToEnd<P extends TensorTree>(
  trainer: Trainer<P>,
  { run, step, frozen, stopped }: {
    readonly run: Run;
    readonly step: number;
    readonly frozen: readonly Path[];
    readonly stopped: boolean;
  },
): Ending["reason"] | null {
  if (stopped) return "stopped";
  if (trainer.activePaths(run, frozen).length === 0) return "frozen";
  return step >= trainer.steps ? "steps" : null;
}
