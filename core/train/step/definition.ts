/**
 * What defines a training step, and the graphs that follow from it.
 *
 * @module
 */

import { shown } from "../../arguments.ts";
import { InputError } from "../../errors.ts";
import { topological } from "../../graph.ts";
import type { Optimizer } from "../../optim/optimizer.ts";
import type { Precision } from "../../plan/types.ts";
import type { Ranks } from "../ranks.ts";
import type { SignalDefinition } from "../../policy.ts";
import { isDrawNumber, MOST_DRAWS } from "../../ops/random.ts";
import { leaf, stepScalar } from "../../sources.ts";
import type { Spec } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import { isTensor, type Leaves, type Path, type Tree, unflatten } from "../../tree.ts";
import { ACTIVATION } from "../freeze/built_in_signals.ts";
import { moduleOf } from "../freeze/components.ts";
import { componentOutputs } from "../freeze/component_outputs.ts";
import { ringShape } from "../freeze/ring.ts";
import { type ThawGroups, thawGroupsOf } from "../freeze/thaw.ts";
import type { Run } from "../state/run.ts";
import { allStateSpecs, type StateSpec } from "../state/specs.ts";
import type { MemoryLimit } from "../options.ts";
import type { AddsGradients, OpenExchange } from "../parameter_exchange.ts";
import type { SkippedSteps } from "../skipped_steps.ts";
import type { ThawSteps } from "../types.ts";
import { type PartGraph, tracePart } from "./part.ts";
import type { StepOptions } from "./step_options.ts";
import { type StepGraph, traceStep } from "./trace.ts";

/** What is the same for all steps of a training. */
export interface StepDefinition {
  /** From parameters and a batch to a scalar. */
  readonly loss: (params: Tree, batch: Tree) => Tensor;
  /** Metrics of the loss; none when absent. */
  readonly metrics?: {
    readonly names: readonly string[];
    readonly compute: (params: Tree, batch: Tree) => readonly Tensor[];
  };
  /** Labels of a batch that the loss is the mean of. */
  readonly count: (batch: Tree) => number;
  /** Whether the loss counts them; one a batch where it does not. */
  readonly counts: boolean;
  readonly optimizer: Optimizer;
  readonly signals: readonly SignalDefinition[];
  readonly trainable: (path: Path) => boolean;
  readonly lookEvery: number;
  readonly thawWarmup: number;
  readonly precision: Precision;
  /** Whether values of a frozen prefix are cached. */
  readonly cachePrefix: boolean;
  /** What is done where a loss or a gradient is not finite. */
  readonly nonFinite: "stop" | "skip" | "rollback";
  /** Whether the weights of the best step are kept, as the policy may end with it. */
  readonly keepsBest: boolean;
  /** Most parts of a step; 1 where a step has one batch. */
  readonly accumulate: number;
  /** Parts of all steps and ranks: each draws random numbers of its own. */
  readonly draws: number;
  /** The processes that train together, whatever they exchange; null for this one alone. */
  readonly together: Ranks | null;
  /** Those that add up gradients; null where none do. */
  readonly ranks: (Ranks & Partial<AddsGradients>) | null;
  /** Exchanges of parameters with other processes; null for none. */
  readonly averages: OpenExchange | null;
  /** Bytes that a training may take; null for no limit. */
  readonly memory: MemoryLimit | null;
}

/** Which step is meant. */
export interface StepRequest {
  readonly run: Run;
  /** Entries of the batch. */
  readonly batch: Leaves;
  /** Paths of the frozen components. */
  readonly frozen: readonly Path[];
  /** Paths of those among them that are measured. */
  readonly probed: readonly Path[];
  /** Step after which each thawed component thawed. */
  readonly since: ThawSteps;
  /** Whether values of the forward pass that may be beyond the range of f16 are stored as f32; false when absent. */
  readonly wide?: boolean;
  /** Steps that updated nothing; none when absent. */
  readonly skipped?: SkippedSteps;
}

/**
 * Paths of the parameters that a frozen set leaves active.
 *
 * @param definition Which parameters are trained
 * @param options The run, and paths of the frozen components
 * @returns Paths in the order of the parameters
 */
export function activePaths(
  { trainable }: Pick<StepDefinition, "trainable">,
  { run, frozen }: Pick<StepRequest, "run" | "frozen">,
): Path[] {
  const rests = new Set(frozen);
  return [...run.params.keys()].filter((path) => trainable(path) && !rests.has(moduleOf(path)));
}

/** The tensors of the state that a frozen set needs, by path. */
export function stateSpecsFor(
  definition: StepDefinition,
  request: Pick<StepRequest, "run" | "frozen">,
): Map<Path, StateSpec> {
  const { run } = request, trainable = activePaths(definition, { run, frozen: [] });
  const active = activeSpecs(definition, request);
  const { optimizer, signals, precision, averages } = definition, { isMeasured } = run;
  const ring = ringOf(definition, run, trainable);
  return new Map<Path, StateSpec>([
    ...allStateSpecs(active, {
      optimizer,
      signals,
      precision,
      judges: judges(definition),
      isMeasured,
      trainable,
      ring,
    }),
    ...averages?.specs(active, trainable) ?? [],
  ]);
}

/** Specs of the parameters that a frozen set leaves active. */
export function activeSpecs(
  definition: Pick<StepDefinition, "trainable">,
  request: Pick<StepRequest, "run" | "frozen">,
): ReadonlyMap<Path, Spec> {
  return new Map(activePaths(definition, request).map((path) => [path, request.run.params.get(path)!]));
}

/** Rings by what is measured, which is found once for each layout of parameters and takes long to count. */
const rings = new WeakMap<Run["isMeasured"], ReturnType<typeof ringShape>>();

/** The shape of the ring of a run, the same for all of its frozen sets. */
function ringOf(
  definition: StepDefinition,
  { params, isMeasured }: Run,
  trainable: readonly Path[],
): ReturnType<typeof ringShape> {
  if (!rings.has(isMeasured)) {
    const specs = new Map(trainable.map((path) => [path, params.get(path)!]));
    rings.set(isMeasured, ringShape(specs, { ...definition, isMeasured }));
  }
  return rings.get(isMeasured)!;
}

/** The loss as a graph of leaves, and the leaves of the parameters. */
export function traceLoss(
  { loss, metrics }: Pick<StepDefinition, "loss" | "metrics">,
  { run, batch }: Pick<StepRequest, "run" | "batch">,
): { readonly loss: Tensor; readonly metrics: readonly Tensor[]; readonly leaves: Leaves } {
  const leaves = new Map([...run.params].map(([path, spec]) => [path, leaf(path, spec)]));
  const entries = new Map([...batch].map(([path, t]) => [path, leaf(`batch.${path}`, t)]));
  const value: unknown = loss(unflatten(leaves), unflatten(entries));
  const watched = metrics?.compute(unflatten(leaves), unflatten(entries)) ?? [];
  if (isTensor(value)) return { loss: value, metrics: watched, leaves };
  throw new InputError(`Cannot train as the loss must return a tensor, a scalar: it gave ${shown(value)}`);
}

/** Groups of the thawed parameters of a step. */
export function thawGroups(definition: StepDefinition, request: StepRequest): ThawGroups {
  return thawGroupsOf(activePaths(definition, request), request.since);
}

/** The graph of a step; where gradients are accumulated, of what follows the parts. */
export function stepGraph(definition: StepDefinition, request: StepRequest): StepGraph {
  return traceStep(stepOptions(definition, request));
}

/** The graph of a part of a step; null where a step has one batch. */
export function partGraph(definition: StepDefinition, request: StepRequest): PartGraph | null {
  return hasParts(definition) ? tracePart(stepOptions(definition, request)) : null;
}

/** Whether the device decides which steps are taken: with f16, or where those that are not finite are skipped. */
export function judges({ precision, nonFinite }: Pick<StepDefinition, "precision" | "nonFinite">): boolean {
  return precision === "f16" || nonFinite === "skip";
}

/** Whether a step takes sums of gradients: of its parts, of several ranks, or both. */
function hasParts({ accumulate, ranks }: Pick<StepDefinition, "accumulate" | "ranks">): boolean {
  return accumulate > 1 || ranks !== null;
}

function stepOptions(definition: StepDefinition, request: StepRequest): StepOptions {
  const { optimizer, signals, trainable, thawWarmup, precision, nonFinite } = definition;
  const { run, probed } = request, { isMeasured } = run;
  const traced = traceLoss(definition, request), { leaves } = traced, made = [traced.loss, ...traced.metrics];
  if (definition.draws >= MOST_DRAWS && topological(made).some(isDrawNumber)) {
    throw new InputError(
      `Cannot train so long as the parts of all steps and ranks draw random numbers of their own, fewer than ${MOST_DRAWS} times: there are ${definition.draws}; take fewer "steps", "accumulate" less, or drop what draws, such as dropout`,
    );
  }
  // Parts have random numbers of their own anyway.
  const [loss, ...metrics] = (hasParts(definition) ? null : definition.averages)?.drawnApart(made) ?? made;
  // What the loss does not read has no gradient: absent, never zero.
  const read = new Set(topological([loss]));
  const leavesOf = (paths: readonly Path[]): Leaves =>
    new Map(paths.map((path) => [path, leaves.get(path)!] as const).filter(([, leaf]) => read.has(leaf)));
  const all = activePaths(definition, { run, frozen: [] });
  return {
    loss,
    metrics,
    accumulated: hasParts(definition),
    shared: definition.ranks !== null,
    skips: nonFinite === "skip",
    active: leavesOf(activePaths(definition, request)),
    probed: leavesOf(
      [...run.params.keys()].filter((path) => trainable(path) && probed.includes(moduleOf(path))),
    ),
    optimizer,
    trainable: all,
    signals,
    isMeasured,
    ring: ringOf(definition, run, all),
    outputs: definition.signals.some(({ name }) => name === ACTIVATION)
      ? componentOutputs(loss, { leaves, trainable })
      : new Map(),
    groups: thawGroups(definition, request).groups,
    warmup: thawWarmup === 0 ? null : stepScalar((_, age) => Math.min(1, age / thawWarmup)),
    precision,
  };
}
