/**
 * Several metrics on many batches, with one read at the end.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { checkAlike, countsOf } from "../infer/evaluate.ts";
import { recordSeries } from "../infer/series.ts";
import { concat, reshape } from "../ops/movement.ts";
import type { Gpu, OnProgress } from "../runtime/device.ts";
import type { Metrics } from "./metrics.ts";

/**
 * Judges parameters by several metrics; each is a mean over all labels.
 *
 * @param gpu The device
 * @param options The metrics, parameters (of a training state, or any tensors) and batches; who is told of the progress
 * @returns Values by metric; NaN or infinite where the model makes them so
 * @throws {InputError} When there is no metric or no batch, or none with a label
 * @throws {ShapeError} When batches differ in shape: pad the last one
 * @throws {ConsumedError} When a training step consumes the parameters before they are read
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { mean, multiply, openGpu, type Tensor, tensor } from "@firn/train";
 * import { evaluateMetrics } from "@firn/train/evaluation";
 *
 * await using gpu = await openGpu();
 * const error = ({ w }: { w: Tensor }, { x }: { x: Tensor }): Tensor => mean(multiply(w, x));
 * const metrics = { error: { mean: error, better: "lower" }, twice: { mean: error, of: (m: number) => 2 * m, better: "lower" } } as const;
 * const batches = [{ x: tensor([1, 3]) }, { x: tensor([2, 4]) }];
 * const found = await evaluateMetrics(gpu, { metrics, params: { w: tensor([1, 1]) }, batches });
 * assertEquals(found, { error: 2.5, twice: 5 });
 * ```
 */
export async function evaluateMetrics<P extends object, B extends object>(
  gpu: Gpu,
  { metrics, params, batches, onProgress }: {
    readonly metrics: Metrics<P, B>;
    readonly params: P;
    readonly batches: readonly B[];
    readonly onProgress?: OnProgress;
  },
): Promise<Readonly<Record<string, number>>> {
  const all = Object.entries(metrics), means = [...new Set(all.map(([, { mean }]) => mean))];
  if (batches.length === 0 || means.length === 0) {
    throw new InputError(
      `Cannot evaluate as there must be a metric and a batch: got ${means.length} and ${batches.length}`,
    );
  }
  checkAlike(batches);
  const counts = means.map((mean) => countsOf(mean, batches));
  const series = await recordSeries(gpu, {
    compute: (batch: B) => concat(means.map((mean) => reshape(mean(params, batch), [1])), 0),
    batches,
    without: (i) => counts.every((count) => count[i] === 0),
    onProgress,
  });
  try {
    series.check();
    const values = await series.run();
    const found = counts.map((count, m) => {
      const total = count.reduce((a, b) => a + b);
      return count.reduce((n, c, i) => c === 0 ? n : n + c * values[i * means.length + m], 0) / total;
    });
    return Object.fromEntries(
      all.map(([name, { mean, of = (value: number) => value }]) => [name, of(found[means.indexOf(mean)])]),
    );
  } finally {
    series.destroy();
  }
}
