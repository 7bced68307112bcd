/**
 * Evaluation: the loss of many batches with one read at the end. Batches weigh as much as they have labels.
 *
 * @module
 */

import { InputError, NonFiniteError, ShapeError } from "../errors.ts";
import type { Gpu, OnProgress } from "../runtime/device.ts";
import { countOf, type Loss } from "../models/loss.ts";
import { sourceOfNonFinite } from "./non_finite.ts";
import { recordSeries } from "./series.ts";
import { sameShape } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { flatten } from "../tree.ts";

/** What {@link evaluate} computes. */
export interface EvaluateOptions<P extends object, B extends object> {
  /** The loss. Its `count` says how much a batch weighs. */
  readonly loss: Loss<P, B>;
  /** Parameters of a training state, or any tensors. */
  readonly params: P;
  /** Batches of one shape. */
  readonly batches: readonly B[];
  /** Called with the batches that the device has done: with 0 once its kernels are compiled, then about twice a second. */
  readonly onProgress?: OnProgress;
}

/** The loss over some batches. */
export interface Evaluated {
  /** The mean over all labels; each batch counts as many as the loss says, by default 1. */
  readonly loss: number;
  /** Labels counted. */
  readonly count: number;
  /** The loss of each batch; NaN of one without labels. */
  readonly losses: readonly number[];
  /** The labels of each batch. */
  readonly counts: readonly number[];
}

/** A recorded evaluation. It reads what the buffers of its parameters hold when it runs. */
export interface Evaluation {
  /**
   * Checks that the buffers still hold the parameters.
   *
   * @throws {ConsumedError} When a training step has consumed them since it was recorded
   */
  check(): void;
  /** Computes the loss of each batch, and their mean. They may be infinite or NaN. */
  run(): Promise<Evaluated>;
  /** Frees its buffers. */
  destroy(): void;
}

/**
 * Computes a loss on batches of one shape.
 *
 * @param gpu The device
 * @param options The loss, parameters (of a training state, or any tensors) and batches; who is told of the progress
 * @returns The mean loss over all labels, and the loss of each batch
 * @throws {InputError} When there is no batch, or none with a label
 * @throws {ShapeError} When batches differ in shape: pad the last one
 * @throws {InputError} When they differ in names or types
 * @throws {NonFiniteError} When a loss is not finite; it names the first parameter that is not
 * @throws {ConsumedError} When a training step consumes the parameters before they are read
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { evaluate, mean, multiply, openGpu, type Tensor, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const loss = ({ w }: { w: Tensor }, { x }: { x: Tensor }): Tensor => mean(multiply(w, x));
 * const batches = [{ x: tensor([1, 3]) }, { x: tensor([2, 4]) }];
 * const { loss: value, losses } = await evaluate(gpu, { loss, params: { w: tensor([1, 1]) }, batches });
 * assertEquals([value, losses], [2.5, [2, 3]]);
 * ```
 */
export async function evaluate<P extends object, B extends object>(
  gpu: Gpu,
  options: EvaluateOptions<P, B>,
): Promise<Evaluated> {
  const evaluation = await recordEvaluation(gpu, options);
  try {
    evaluation.check();
    const evaluated = await evaluation.run();
    await checkFinite(gpu, options.params, evaluated);
    return evaluated;
  } finally {
    evaluation.destroy();
  }
}

async function checkFinite(gpu: Gpu, params: object, { loss, losses, counts }: Evaluated): Promise<void> {
  if (Number.isFinite(loss)) return;
  const bad = losses.findIndex((value, i) => counts[i] > 0 && !Number.isFinite(value));
  const mend = await sourceOfNonFinite(gpu, flatten(params), "that batch");
  throw new NonFiniteError(`loss of batch ${bad + 1}`, 0, losses[bad], { action: "evaluate", mend });
}

/**
 * Records an evaluation that can be repeated as the parameters change.
 *
 * @param gpu The device
 * @param options The loss, parameters and batches
 * @returns The evaluation
 * @throws {InputError} When there is no batch, or none with a label
 * @throws {ShapeError} When batches differ in shape
 * @throws {InputError} When they differ in names or types
 */
export async function recordEvaluation<P extends object, B extends object>(
  gpu: Gpu,
  options: EvaluateOptions<P, B>,
): Promise<Evaluation> {
  const { loss, params, batches, onProgress } = options;
  if (batches.length === 0) throw new InputError('Cannot evaluate as "batches" is empty: give at least one');
  checkAlike(batches);
  const counts = countsOf(loss, batches);
  const { check, run, destroy } = await recordSeries(gpu, {
    compute: (batch: B) => loss(params, batch),
    batches,
    without: (i) => counts[i] === 0,
    onProgress,
  });
  return { check, run: async () => evaluatedOf([...await run()], counts), destroy };
}

/**
 * The weight of each batch.
 *
 * @param loss The loss, which counts
 * @param batches The batches
 * @returns Their counts
 * @throws {InputError} When no batch has a label
 */
export function countsOf<P extends object, B extends object>(
  loss: Loss<P, B>,
  batches: readonly B[],
): number[] {
  const counts = batches.map((batch) => countOf(loss, batch));
  if (counts.some((count) => count > 0)) return counts;
  throw new InputError(
    `Cannot evaluate as a loss is a mean over labels: no batch has one that counts`,
  );
}

/** The mean over labels. A batch without labels has no loss. */
function evaluatedOf(losses: readonly number[], counts: readonly number[]): Evaluated {
  const count = counts.reduce((a, b) => a + b);
  const total = losses.reduce((sum, loss, i) => counts[i] === 0 ? sum : sum + counts[i] * loss, 0);
  return {
    loss: total / count,
    count,
    losses: losses.map((loss, i) => counts[i] === 0 ? NaN : loss),
    counts,
  };
}

/**
 * Checks that all batches have the same names, shapes and types.
 *
 * @param batches The batches, at least one
 * @throws {ShapeError} When they differ in shape
 * @throws {InputError} When they differ in names or types
 */
export function checkAlike(batches: readonly object[]): void {
  const first = flatten(batches[0]), kindOf = (t: Tensor | undefined): string => t?.dtype ?? "nothing";
  for (const other of batches.slice(1).map((batch) => flatten(batch))) {
    for (const path of new Set([...first.keys(), ...other.keys()])) {
      const a = first.get(path), b = other.get(path), rule = `"${path}" must be alike in all batches`;
      if (kindOf(a) !== kindOf(b)) {
        throw new InputError(`Cannot apply "evaluate" as ${rule}: got ${kindOf(a)} and ${kindOf(b)}`);
      }
      if (!sameShape(a!.shape, b!.shape)) throw new ShapeError("evaluate", rule, [a!.shape, b!.shape]);
    }
  }
}
