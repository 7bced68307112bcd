/**
 * One training step as a graph.
 *
 * @module
 */

import { grad } from "../../grad.ts";
import { add, divide } from "../../ops/arithmetic.ts";
import { leaf } from "../../sources.ts";
import type { Spec } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import type { Leaves, Path } from "../../tree.ts";
import type { Column } from "../freeze/ring.ts";
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
import { isProbed, nextRing, readingsOf } from "./readings.ts";
import type { StepOptions } from "./step_options.ts";
import { decideBy, type Decision } from "./verdict.ts";

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
  replace(RING, ring, nextRing(ring, { loss, metrics, clip: step.clip, verdict, readings }));
  return { roots, loss, updates, doubleBuffered, columns: readings.columns, replaced };
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
  return new Map([...active, ...[...probed].filter(([path, spec]) => isProbed(options, { path, spec }))]);
}
