/**
 * A part of a step whose gradients are accumulated: some of its samples, which fit on the device when all do not.
 *
 * Every part adds its gradients and its loss, times its share of the labels, to those of the parts before. Then the step is one of
 * these sums (see `trace.ts`), as it would be of all samples in one batch.
 *
 * @module
 */

import { grad } from "../../grad.ts";
import { rebuild, topological } from "../../graph.ts";
import { add, multiply } from "../../ops/arithmetic.ts";
import { isDrawNumber } from "../../ops/random.ts";
import { leaf } from "../../sources.ts";
import type { Spec } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import type { Path } from "../../tree.ts";
import {
  ACCUMULATED,
  ACCUMULATED_LOSS,
  ACCUMULATED_METRIC,
  ACCUMULATED_OUTPUTS,
  PART_DRAW,
  PART_WEIGHT,
} from "../state/specs.ts";
import { lossScaling } from "./loss_scaling.ts";
import { measuredOutputs, sumsOfOutputs } from "./readings.ts";
import type { StepOptions } from "./step_options.ts";
import { type StepGraph, wantedGradients } from "./trace.ts";

const SCALAR: Spec = { shape: [], dtype: "f32" };

/** The graph of a part: its roots, and the sum that each of them overwrites. */
export interface PartGraph extends Pick<StepGraph, "roots" | "loss" | "updates"> {
  /** Specs of the sums by path, in the order in which the backward pass completes them. */
  readonly sums: ReadonlyMap<Path, Spec>;
}

/**
 * Builds the graph of a part.
 *
 * @param options The loss, and which gradients a step needs
 * @returns The graph
 */
export function tracePart(options: StepOptions): PartGraph {
  // Each part draws its own random numbers, as the samples of a large batch do.
  const watched = options.metrics ?? [], measured = measuredOutputs(options);
  const [whole, ...others] = rebuild(
    [options.loss, ...watched, ...measured.map(({ output }) => output)],
    (node) => isDrawNumber(node) ? leaf(PART_DRAW, SCALAR) : node,
  );
  const metrics = others.slice(0, watched.length), outputs = others.slice(watched.length);
  const wanted = [...wantedGradients(options)];
  // Its share is taken before it is differentiated, so that gradients have the size that they have in one batch.
  const loss = multiply(whole, leaf(PART_WEIGHT, SCALAR));
  const scaling = options.precision === "f16" ? lossScaling() : null;
  const gradients = grad(scaling?.scaled(loss) ?? loss, wanted.map(([, t]) => t));
  const roots: Tensor[] = [], updates = new Map<number, Tensor>();
  const sums = new Map<Path, Spec>(
    lastReadFirst(wanted, whole).map(([path, { shape }]) => [ACCUMULATED + path, f32(shape)]),
  );
  const accumulate = (path: Path, value: Tensor): void => {
    const sum = leaf(path, f32(value.shape));
    sums.set(path, f32(value.shape));
    updates.set(roots.push(add(sum, value)) - 1, sum);
  };
  wanted.forEach(([path], i) =>
    accumulate(ACCUMULATED + path, scaling?.unscaled(gradients[i]) ?? gradients[i])
  );
  accumulate(ACCUMULATED_LOSS, loss);
  metrics.forEach((metric, i) =>
    accumulate(`${ACCUMULATED_METRIC}${i}`, multiply(metric, leaf(PART_WEIGHT, SCALAR)))
  );
  if (outputs.length > 0) {
    accumulate(ACCUMULATED_OUTPUTS, sumsOfOutputs(outputs.map((output) => ({ output }))));
  }
  return { roots, loss, updates, sums };
}

/**
 * Parameters in the order in which the backward pass has their gradients: those first that the forward pass reads last. A tied table
 * is read first, so its gradient is complete last. By the graph alone, which ranks with batches of other shapes have, too.
 */
function lastReadFirst(
  wanted: readonly (readonly [Path, Tensor])[],
  loss: Tensor,
): (readonly [Path, Tensor])[] {
  const first = new Map<Tensor, number>();
  topological([loss]).forEach(({ inputs }, at) => {
    for (const input of inputs) if (!first.has(input)) first.set(input, at);
  });
  return wanted.toReversed().sort(([, a], [, b]) => first.get(b)! - first.get(a)!);
}

function f32(shape: readonly number[]): Spec {
  return { shape, dtype: "f32" };
}
