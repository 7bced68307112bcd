/**
 * One training step as a graph.
 *
 * @module
 */

import { grad } from "../../grad.ts";
import { add, divide, multiply, subtract } from "../../ops/arithmetic.ts";
import { broadcast, sumEach } from "../../ops/broadcast.ts";
import { equal, where } from "../../ops/comparison.ts";
import { abs } from "../../ops/functions.ts";
import { concat, reshape } from "../../ops/movement.ts";
import { momentPath, type Optimizer, type OptimizerStep } from "../../optim/optimizer.ts";
import type { Precision } from "../../plan/types.ts";
import type { Signal } from "../../policy.ts";
import { leaf, stepScalar, tensor } from "../../sources.ts";
import type { Spec } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import type { Leaves, Path } from "../../tree.ts";
import type { Column } from "../freeze/ring.ts";
import { type IsMeasured, momentFor } from "../freeze/signals.ts";
import { withThawGroups } from "../freeze/thaw.ts";
import {
  ACCUMULATED,
  ACCUMULATED_LOSS,
  ACCUMULATED_METRIC,
  ALL_WEIGHT,
  JUDGED,
  LOSS,
  OPTIMIZER,
  PREVIOUS,
  RING,
  stateSpecs,
} from "../state/specs.ts";
import { withAppliedAges } from "./applied_ages.ts";
import { lossScaling, type Scaling, type Verdict } from "./loss_scaling.ts";
import { decideBy, type Decision, lossReading } from "./verdict.ts";

/** The graph of a step: its roots, and the leaf that each of them overwrites. */
export interface StepGraph {
  readonly roots: readonly Tensor[];
  /** What the forward pass computes. */
  readonly loss: Tensor;
  /** Index of a root to the leaf that it overwrites. */
  readonly updates: ReadonlyMap<number, Tensor>;
  /** Roots that swap buffers with their leaf: gradients that are kept for the next step. */
  readonly doubleBuffered: ReadonlySet<number>;
  /** Columns of the ring, after the loss and the overflow. */
  readonly columns: readonly Column[];
  /** Specs of all tensors that the step overwrites, by path. */
  readonly replaced: ReadonlyMap<Path, Spec>;
}

/** What {@link traceStep} needs to know. */
export interface StepOptions {
  readonly loss: Tensor;
  /** Metrics of the loss, scalars; none when absent. */
  readonly metrics?: readonly Tensor[];
  /** Parameters that are trained, by path. */
  readonly active: Leaves;
  /** Frozen parameters whose gradients are measured; none when absent. */
  readonly probed?: Leaves;
  readonly optimizer: Optimizer;
  /** Paths of all parameters that may be active, in order; those of `active` when absent. */
  readonly trainable?: readonly Path[];
  readonly signals: readonly Signal[];
  /** Which of them are measured of which parameters; all of all when absent. */
  readonly isMeasured?: IsMeasured;
  /** Shape of the ring buffer: rows, columns. */
  readonly ring: readonly [number, number];
  /** Groups of the thawed parameters; none when absent. */
  readonly groups?: ReadonlyMap<Path, number>;
  /** Factor of the updates of thawed parameters, by updates since the thaw; none when absent or null. */
  readonly warmup?: Tensor | null;
  /** How values are stored. With `"f16"` the loss is scaled, and a step whose gradients overflow changes nothing. */
  readonly precision?: Precision;
  /** Whether a step whose loss or gradients are not finite is skipped; false when absent. */
  readonly skips?: boolean;
  /** Whether loss and gradients are sums that parts of the step have made; false when absent. */
  readonly accumulated?: boolean;
  /** Whether these sums are weighted by labels, of which `ALL_WEIGHT` is the sum; by shares, which add up to 1, when absent. */
  readonly shared?: boolean;
}

/**
 * Builds the graph of a step: gradients of the active parameters, their updates, the readings. Probed parameters only have
 * readings: their gradients reach no optimizer, so no global norm counts them.
 *
 * @param options The loss, and what to do with its gradients
 * @returns The graph
 */
export function traceStep(options: StepOptions): StepGraph {
  const { active, optimizer, signals, isMeasured, groups = new Map(), warmup = null } = options;
  const loss = options.accumulated ? meanOf(options, leaf(ACCUMULATED_LOSS, options.loss)) : options.loss;
  const metrics = (options.metrics ?? []).map((metric, i) =>
    options.accumulated ? meanOf(options, leaf(`${ACCUMULATED_METRIC}${i}`, metric)) : metric
  );
  const paths = [...active.keys()], { trainable = paths } = options;
  const { grads, probedGrads, verdict } = gradientsOf(options, loss);
  const specs = stateSpecs(active, { optimizer, signals, isMeasured, trainable });
  const leaves = new Map([...specs].map(([path, spec]) => [path, leaf(path, spec)]));
  const state = new Map(
    [...leaves].flatMap(([path, l]) =>
      path.startsWith(OPTIMIZER) ? [[path.slice(OPTIMIZER.length), l] as const] : []
    ),
  );
  const counted = withThawGroups(optimizer.next(state, grads, active, trainable), {
    grads,
    moments: optimizer.moments,
    groups,
    warmup,
  });
  const applied = verdict && withAppliedAges(counted, { grads, ok: verdict.ok, columns: options.ring[0] });
  const { step } = applied ?? { step: counted };

  const roots: Tensor[] = [], updates = new Map<number, Tensor>(), replaced = new Map<Path, Spec>();
  const doubleBuffered = new Set<number>();
  const replace = (path: Path, target: Tensor, value: Tensor): void => {
    updates.set(roots.push(value) - 1, target);
    replaced.set(path, { shape: target.shape, dtype: target.dtype });
  };
  /** Replaces what a skipped step keeps. */
  const update = (path: Path, target: Tensor, value: Tensor): void =>
    replace(path, target, verdict?.keep(value, target) ?? value);
  for (const [path, weight] of active) {
    update(path, weight, add(weight, step.updates.get(path)!));
    const previous = leaves.get(PREVIOUS + path);
    if (previous === undefined) continue;
    doubleBuffered.add(roots.length);
    update(PREVIOUS + path, previous, grads.get(path)!);
  }
  for (const [name, value] of step.state) update(OPTIMIZER + name, leaves.get(OPTIMIZER + name)!, value);
  const scaling = verdict !== null && "state" in verdict ? verdict.state : [];
  for (const [path, { leaf, value }] of scaling) replace(path, leaf, value);
  if (applied !== null) replace(JUDGED, applied.judged.leaf, applied.judged.value);
  replace(LOSS, leaf(LOSS, loss), loss);

  const readings = readingsOf(options, { grads, probedGrads, step, leaves });
  const ring = leaf(RING, { shape: options.ring, dtype: "f32" });
  replace(RING, ring, nextRing(ring, { loss, metrics, verdict, readings }));
  return { roots, loss, updates, doubleBuffered, columns: readings.map(({ column }) => column), replaced };
}

/** Gradients of active and probed parameters, and what f16 does to them; `seen` is the loss of the whole step. */
function gradientsOf(options: StepOptions, seen: Tensor): {
  readonly grads: Leaves;
  readonly probedGrads: Leaves;
  readonly verdict: Verdict | Decision | null;
} {
  const { loss, active, trainable = [...active.keys()], precision, accumulated = false } = options;
  const { skips = false } = options;
  const wanted = wantedGradients(options), paths = [...wanted.keys()];
  const scaling: Scaling | null = precision === "f16" ? lossScaling() : null;
  const differentiate = (): Tensor[] => {
    const scaled = grad(scaling?.scaled(loss) ?? loss, [...wanted.values()]);
    return scaling === null ? scaled : scaled.map(scaling.unscaled);
  };
  const gradients = accumulated
    ? [...wanted].map(([path, { shape }]) =>
      meanOf(options, leaf(ACCUMULATED + path, { shape, dtype: "f32" }))
    )
    : differentiate();
  const pairs = paths.map((path, i) => [path, gradients[i]] as const);
  return {
    grads: new Map(pairs.slice(0, active.size)),
    probedGrads: new Map(pairs.slice(active.size)),
    verdict: scaling?.judge(gradients, { loss: seen, size: trainable.length }) ??
      (skips ? decideBy([...gradients, seen], trainable.length + 1) : null),
  };
}

/** What sums over parts stand for. */
function meanOf({ shared = false }: StepOptions, sum: Tensor): Tensor {
  return shared ? divide(sum, leaf(ALL_WEIGHT, { shape: [], dtype: "f32" })) : sum;
}

/**
 * The parameters whose gradients a step needs: the active ones, then those of the probed ones that are measured.
 *
 * @param options The step
 * @returns Parameters by path
 */
export function wantedGradients(options: StepOptions): Leaves {
  const { active, probed = new Map() } = options;
  const isRead = (path: Path): boolean =>
    wants(options, "gradNorm", path) || wants(options, "gradSquare", path);
  return new Map([...active, ...[...probed].filter(([path]) => isRead(path))]);
}

function wants({ signals, isMeasured }: StepOptions, signal: Signal, path: Path): boolean {
  return signals.includes(signal) && (isMeasured?.(signal, path) ?? true);
}

/** A signal of a parameter, and what to sum up for it. */
interface Reading {
  readonly column: Column;
  readonly value: Tensor;
  /** Whether it is of a probed parameter. */
  readonly probed: boolean;
}

/** The readings of a step, in the order of the columns. */
function readingsOf(
  options: StepOptions,
  { grads, probedGrads, step, leaves }: {
    readonly grads: Leaves;
    readonly probedGrads: Leaves;
    readonly step: OptimizerStep;
    /** Leaves of the state before the step. */
    readonly leaves: Leaves;
  },
): Reading[] {
  const readings: Reading[] = [];
  const measure = (signal: Signal, path: Path, value: () => Tensor): void => {
    if (!wants(options, signal, path)) return;
    readings.push({ column: { signal, path }, value: value(), probed: probedGrads.has(path) });
  };
  const measureGradient = (path: Path, gradient: Tensor): void => {
    measure("gradNorm", path, () => abs(gradient));
    measure("gradSquare", path, () => multiply(gradient, gradient));
  };
  const { optimizer } = options;
  /** A moment of a parameter: training sees to it that each has those that are measured. */
  const momentOf = (signal: "firstMoment" | "secondMoment", path: Path): Tensor => {
    const name = momentPath(momentFor(optimizer, signal)!, path);
    return step.readings?.get(name) ?? step.state.get(name)!;
  };
  for (const [path, gradient] of grads) {
    const update = step.updates.get(path)!;
    measureGradient(path, gradient);
    measure("gradDelta", path, () => abs(subtract(gradient, leaves.get(PREVIOUS + path)!)));
    measure("weightDelta", path, () => abs(update));
    measure("benefit", path, () => abs(multiply(gradient, update)));
    measure("firstMoment", path, () => {
      const m = momentOf("firstMoment", path);
      return multiply(m, m);
    });
    measure("secondMoment", path, () => momentOf("secondMoment", path));
  }
  for (const [path, gradient] of probedGrads) measureGradient(path, gradient);
  return readings;
}

/** The ring after a step: one row is replaced, in place. */
function nextRing(
  ring: Tensor,
  { loss, metrics, verdict, readings }: {
    readonly loss: Tensor;
    readonly metrics: readonly Tensor[];
    readonly verdict: Verdict | Decision | null;
    readonly readings: readonly Reading[];
  },
): Tensor {
  const [rows, width] = ring.shape;
  const judged = verdict === null
    ? [loss]
    : "overflow" in verdict
    ? [loss, verdict.overflow]
    : [lossReading(verdict, loss)];
  const first = [...judged, ...metrics];
  const valuesOf = (probed: boolean): Tensor[] =>
    readings.filter((reading) => reading.probed === probed).map(({ value }) => value);
  const now = [...first, ...valuesOf(false)], below = valuesOf(true);
  // Gradients of probed parameters come last, as these are below the active ones. One sum of all readings would wait for
  // them, in a launch of its own.
  const sums = below.length === 0
    ? sumEach(now, { size: width })
    : concat([sumEach(now), sumEach(below, { size: width - now.length })], 0);
  const row = verdict?.readings(sums, first.length) ?? sums;
  const numbers = tensor(Float32Array.from({ length: rows }, (_, i) => i), [rows, 1]);
  const here = equal(numbers, stepScalar((step) => (step - 1) % rows));
  return where(here, broadcast(reshape(row, [1, width]), ring.shape), ring);
}
