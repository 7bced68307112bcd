/**
 * One training step as a graph.
 *
 * @module
 */

import { grad } from "../../grad.ts";
import { add, multiply, subtract } from "../../ops/arithmetic.ts";
import { broadcast, sumEach } from "../../ops/broadcast.ts";
import { equal, where } from "../../ops/comparison.ts";
import { abs } from "../../ops/functions.ts";
import { concat, reshape } from "../../ops/movement.ts";
import type { Optimizer } from "../../optim/optimizer.ts";
import type { Precision } from "../../plan/types.ts";
import type { Signal } from "../../policy.ts";
import { leaf, type Spec, stepScalar, type Tensor, tensor } from "../../tensor.ts";
import type { Leaves, Path } from "../../tree.ts";
import { aged } from "../freeze/thaw.ts";
import type { Measures } from "../freeze/signals.ts";
import { lossScaling, SCALING_SPECS } from "./loss_scaling.ts";

/** A reading of the step: which signal of which parameter a column of the ring holds. */
export interface Column {
  readonly signal: Signal;
  readonly path: Path;
}

/** The graph of a step: roots, and the leaf each of them overwrites. */
export interface StepGraph {
  readonly roots: readonly Tensor[];
  /** Root index to leaf. */
  readonly updates: ReadonlyMap<number, Tensor>;
  /** Roots that are the gradients which a leaf keeps for the next step. */
  readonly doubleBuffered: ReadonlySet<number>;
  /** Columns of the ring after those of {@link columnsBefore}. */
  readonly columns: readonly Column[];
  /** Leaf of every piece of state that the step replaces, by path. */
  readonly replaced: ReadonlyMap<Path, Spec>;
}

/** What {@link traceStep} needs to know. */
export interface StepOptions {
  readonly loss: Tensor;
  /** Parameters that are trained, by path. */
  readonly active: Leaves;
  /** Parameters whose gradients are measured and not followed; none when absent. */
  readonly probed?: Leaves;
  readonly optimizer: Optimizer;
  /** Paths of all parameters that may be active, in order; those of `active` when absent. */
  readonly trainable?: readonly Path[];
  readonly signals: readonly Signal[];
  /** Of which parameters each of them is measured; of all when absent. */
  readonly measures?: Measures;
  /** Shape of the ring buffer: rows of readings, columns. */
  readonly ring: readonly [number, number];
  /** Groups of the active parameters that thawed; none when absent. */
  readonly groups?: ReadonlyMap<Path, number>;
  /** Factor of the updates of what thawed, by age; none when absent or null. */
  readonly warmup?: Tensor | null;
  /** How values are stored: with `"f16"` the loss is scaled, and a step whose gradients overflow changes nothing. */
  readonly precision?: Precision;
}

/**
 * How many numbers a row of the ring begins with before the readings: the loss, and with `"f16"` the factor of the loss at
 * which gradients overflowed, 0 where they did not.
 *
 * @param precision How values are stored
 * @returns Columns
 */
export function columnsBefore(precision: Precision): number {
  return precision === "f16" ? 2 : 1;
}

/** Paths of the state besides parameters, and shapes: that of the optimizer, previous gradients, and loss scaling. */
export function stateSpecs(
  active: ReadonlyMap<Path, Spec>,
  options: Pick<StepOptions, "optimizer" | "signals" | "measures" | "trainable" | "precision">,
): Map<Path, Spec> {
  const { measures = () => true } = options;
  const leaves = new Map([...active].map(([path, spec]) => [path, leaf(path, spec)]));
  const all = new Map<Path, Spec>(
    [...options.optimizer.init(leaves, options.trainable)].map(([path, t]) => [`optimizer.${path}`, t]),
  );
  if (options.signals.includes("gradDelta")) {
    for (const [path, spec] of active) if (measures("gradDelta", path)) all.set(`previous.${path}`, spec);
  }
  if (options.precision === "f16") { for (const [path, spec] of SCALING_SPECS) all.set(path, spec); }
  return all;
}

/**
 * Builds the graph of a step: gradients of the active parameters, their updates, the readings. What is probed has
 * readings alone: no optimizer sees it, so no norm over all gradients does.
 *
 * @param options The loss and what to do with its gradients
 * @returns The graph
 */
export function traceStep(options: StepOptions): StepGraph {
  const { loss, active, optimizer, signals, ring, measures = () => true } = options;
  const { groups = new Map(), warmup = null } = options;
  const wants = (signal: Signal, path: Path): boolean => signals.includes(signal) && measures(signal, path);
  const probed = new Map(
    [...options.probed ?? []].filter(([path]) => wants("gradNorm", path) || wants("gradSquare", path)),
  );
  const paths = [...active.keys()], { trainable = paths } = options;
  const scaling = options.precision === "f16" ? lossScaling() : null;
  const measured = grad(scaling?.scaled(loss) ?? loss, [...active.values(), ...probed.values()]);
  const gradients = scaling === null ? measured : measured.map(scaling.unscaled);
  const verdict = scaling?.judge(gradients, trainable.length) ?? null;
  const grads = new Map(paths.map((path, i) => [path, gradients[i]]));
  const specs = stateSpecs(active, { optimizer, signals, measures, trainable });
  const stateLeaves = new Map([...specs].map(([path, spec]) => [path, leaf(path, spec)]));
  const moments = new Map(
    [...stateLeaves].flatMap(([path, l]) =>
      path.startsWith("optimizer.") ? [[path.slice(10), l] as const] : []
    ),
  );
  const { updates: steps, state } = aged(optimizer.next(moments, grads, active, trainable), {
    grads,
    groups,
    warmup,
  });

  const doubleBuffered = new Set<number>();
  const roots: Tensor[] = [], updates = new Map<number, Tensor>(), replaced = new Map<Path, Spec>();
  const replace = (path: Path, target: Tensor, value: Tensor): void => {
    updates.set(roots.push(value) - 1, target);
    replaced.set(path, { shape: target.shape, dtype: target.dtype });
  };
  const renew = (path: Path, target: Tensor, value: Tensor): void =>
    replace(path, target, verdict?.keep(value, target) ?? value);
  const columns: Column[] = [], readings: Tensor[] = [];
  const measure = (signal: Signal, path: Path, value: () => Tensor): void => {
    if (!wants(signal, path)) return;
    columns.push({ signal, path });
    readings.push(value());
  };
  const measureGradient = (path: Path, gradient: Tensor): void => {
    measure("gradNorm", path, () => abs(gradient));
    measure("gradSquare", path, () => multiply(gradient, gradient));
  };
  for (const path of paths) {
    const weight = active.get(path)!, gradient = grads.get(path)!, step = steps.get(path)!;
    renew(path, weight, add(weight, step));
    const previous = stateLeaves.get(`previous.${path}`);
    measureGradient(path, gradient);
    measure("gradDelta", path, () => abs(subtract(gradient, previous!)));
    measure("weightDelta", path, () => abs(step));
    measure("benefit", path, () => abs(multiply(gradient, step)));
    const [m, v] = moments.map((moment) => moment && state.get(momentPath(moment, path)));
    if (m !== undefined) measure("firstMoment", path, () => multiply(m, m));
    if (v !== undefined) measure("secondMoment", path, () => v);
    if (previous === undefined) continue;
    doubleBuffered.add(roots.length);
    renew(`previous.${path}`, previous, gradient);
  }
  const own = readings.length;
  [...probed.keys()].forEach((path, i) => measureGradient(path, gradients[paths.length + i]));
  for (const [name, moment] of state) {
    renew(`optimizer.${name}`, stateLeaves.get(`optimizer.${name}`)!, moment);
  }

  for (const [path, { leaf, value }] of verdict?.state ?? []) replace(path, leaf, value);
  replace("loss", leaf("loss", loss), loss);
  // The ring is a tensor like any other: one row is replaced, in place.
  const [rows, width] = ring;
  const first = verdict === null ? [loss] : [loss, verdict.overflow];
  const now = [...first, ...readings.slice(0, own)], below = readings.slice(own);
  // What is probed lies lower: in one sum with it, the other readings would have to wait, and have launches of their own.
  const seen = below.length === 0
    ? sumEach(now, { size: width })
    : concat([sumEach(now), sumEach(below, { size: width - now.length })], 0);
  const row = verdict?.readings(seen, first.length) ?? seen;
  const numbers = tensor(Float32Array.from({ length: rows }, (_, i) => i), [rows, 1]);
  const here = equal(numbers, stepScalar((step) => (step - 1) % rows));
  const ringLeaf = leaf("ring", { shape: ring, dtype: "f32" });
  replace("ring", ringLeaf, where(here, broadcast(reshape(row, [1, width]), ring), ringLeaf));
  return { roots, updates, doubleBuffered, columns, replaced };
}
