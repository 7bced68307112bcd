/**
 * A part of a step whose gradients are accumulated: some of its samples, which fit on the device when all do not.
 *
 * Every part adds its gradients and its loss, times its share of the labels, to those of the parts before. Then the step is one of
 * these sums (see `trace.ts`), as it would be of all samples in one batch.
 *
 * @module
 */

import { grad } from "../../grad.ts";
import { rebuild } from "../../graph.ts";
import { add, multiply } from "../../ops/arithmetic.ts";
import { isDrawNumber } from "../../ops/random.ts";
import { leaf } from "../../sources.ts";
import type { Spec } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import type { Path } from "../../tree.ts";
import { ACCUMULATED, ACCUMULATED_LOSS, ACCUMULATED_METRIC, PART_DRAW, PART_WEIGHT } from "../state/specs.ts";
import { lossScaling } from "./loss_scaling.ts";
import { type StepGraph, type StepOptions, wantedGradients } from "./trace.ts";

const SCALAR: Spec = { shape: [], dtype: "f32" };

/** The graph of a part: its roots, and the sum that each of them overwrites. */
export interface PartGraph extends Pick<StepGraph, "roots" | "loss" | "updates"> {
  /** Specs of the sums by path. */
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
  const [whole, ...metrics] = rebuild(
    [options.loss, ...options.metrics ?? []],
    (node) => isDrawNumber(node) ? leaf(PART_DRAW, SCALAR) : node,
  );
  const wanted = [...wantedGradients(options)];
  // Its share is taken before it is differentiated, so that gradients have the size that they have in one batch.
  const loss = multiply(whole, leaf(PART_WEIGHT, SCALAR));
  const scaling = options.precision === "f16" ? lossScaling() : null;
  const gradients = grad(scaling?.scaled(loss) ?? loss, wanted.map(([, t]) => t));
  const roots: Tensor[] = [], updates = new Map<number, Tensor>(), sums = new Map<Path, Spec>();
  const accumulate = (path: Path, value: Tensor): void => {
    const sum = leaf(path, { shape: value.shape, dtype: "f32" });
    sums.set(path, { shape: value.shape, dtype: "f32" });
    updates.set(roots.push(add(sum, value)) - 1, sum);
  };
  wanted.forEach(([path], i) =>
    accumulate(ACCUMULATED + path, scaling?.unscaled(gradients[i]) ?? gradients[i])
  );
  accumulate(ACCUMULATED_LOSS, loss);
  metrics.forEach((metric, i) =>
    accumulate(`${ACCUMULATED_METRIC}${i}`, multiply(metric, leaf(PART_WEIGHT, SCALAR)))
  );
  return { roots, loss, updates, sums };
}
