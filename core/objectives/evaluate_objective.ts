/**
 * An objective over many batches: its loss and its metrics in one pass.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { checkAlike, countsOf } from "../infer/evaluate.ts";
import { recordSeries } from "../infer/series.ts";
import { stack } from "../ops/axes.ts";
import type { Gpu, OnProgress } from "../runtime/device.ts";
import type { Objective } from "./objective.ts";

/** What {@link evaluateObjective} computes. */
export interface EvaluateObjectiveOptions<P extends object, B extends object> {
  /** The objective. */
  readonly objective: Objective<P, B>;
  /** Parameters of a training state, or any tensors. */
  readonly params: P;
  /** Batches of one shape. */
  readonly batches: readonly B[];
  /** Called with the batches that the device has done, about twice a second. */
  readonly onProgress?: OnProgress;
}

/**
 * Computes loss and metrics of an objective on batches of one shape.
 *
 * @param gpu The device
 * @param options The objective, parameters and batches
 * @returns Means over what batches count: `loss`, and the metrics by name
 * @throws {InputError} When there is no batch, or none that counts
 * @throws {ShapeError} When batches differ in shape
 */
export async function evaluateObjective<P extends object, B extends object>(
  gpu: Gpu,
  { objective, params, batches, onProgress }: EvaluateObjectiveOptions<P, B>,
): Promise<Readonly<Record<string, number>>> {
  if (batches.length === 0) throw new InputError('Cannot evaluate as "batches" is empty: give at least one');
  checkAlike(batches);
  const counts = countsOf(objective, batches), names = ["loss", ...objective.metrics.names];
  const series = await recordSeries(gpu, {
    compute: (batch: B) => stack([objective(params, batch), ...objective.metrics.compute(params, batch)], 0),
    batches,
    without: (i) => counts[i] === 0,
    onProgress,
  });
  try {
    series.check();
    const found = await series.run(), all = counts.reduce((a, b) => a + b);
    const meanOf = (at: number): number =>
      counts.reduce((sum, count, i) => count === 0 ? sum : sum + count * found[i * names.length + at], 0) /
      all;
    return Object.fromEntries(names.map((name, at) => [name, meanOf(at)]));
  } finally {
    series.destroy();
  }
}
