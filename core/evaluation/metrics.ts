/**
 * What a model is judged by: means over labels, and what is made of them.
 *
 * @module
 */

import type { Loss } from "../models/loss.ts";
import type { Model } from "../models/model.ts";
import { type ClassBatch, classLoss, logits } from "../models/tasks.ts";

import { equal, less, maximum } from "../ops/comparison.ts";
import { cast, divide } from "../ops/arithmetic.ts";
import { sum } from "../ops/broadcast.ts";
import { argmax } from "../ops/top_k.ts";
import type { Tensor } from "../tensor.ts";

/**
 * A number that a model is judged by.
 *
 * @typeParam P Parameters
 * @typeParam B A batch
 */
export interface Metric<P extends object, B extends object> {
  /** A mean over the labels of a batch; its `count` says how many these are. Metrics of one mean share its computation. */
  readonly mean: Loss<P, B>;
  /** What is made of the mean over all batches; the mean itself when absent. */
  readonly of?: (mean: number) => number;
  /** Which values are better. */
  readonly better: "lower" | "higher";
}

/** Metrics by name. */
export type Metrics<P extends object, B extends object> = { readonly [name: string]: Metric<P, B> };

/**
 * Makes metrics of a loss: `loss`, and `perplexity`, which is e to the loss.
 *
 * @param loss The loss, such as that of `nextTokenLoss`
 * @returns The metrics
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sum, type Tensor } from "@firn/train";
 * import { lossMetrics } from "@firn/train/evaluation";
 *
 * const { loss, perplexity } = lossMetrics(({ w }: { w: Tensor }) => sum(w));
 * assertEquals([loss.better, perplexity.of!(0)], ["lower", 1]);
 * ```
 */
export function lossMetrics<P extends object, B extends object>(
  loss: Loss<P, B>,
): { readonly loss: Metric<P, B>; readonly perplexity: Metric<P, B> } {
  return {
    loss: { mean: loss, better: "lower" },
    perplexity: { mean: loss, of: Math.exp, better: "lower" },
  };
}

/**
 * The share of labels that a model finds: 0 to 1.
 *
 * @param model A model with a head for classes, of which each row has one
 * @returns The metric; labels of -100 do not count
 * @throws {InputError} When the model has no such head
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { type ImageInput, openGpu, tensor } from "@firn/train";
 * import { newModel } from "@firn/train/hub";
 * import { classAccuracy, evaluateMetrics } from "@firn/train/evaluation";
 *
 * await using gpu = await openGpu();
 * const source = { model_type: "vit", architectures: ["ViTForImageClassification"], hidden_size: 8, intermediate_size: 8,
 *   num_hidden_layers: 1, num_attention_heads: 1, image_size: 2, patch_size: 1, num_channels: 1, id2label: { 0: "a" } };
 * const model = await newModel<object, ImageInput>(gpu, { source, seed: 1 });
 * const batch = { pixelValues: tensor([1, 2, 3, 4], [1, 1, 2, 2]), labels: tensor(new Int32Array([0])) };
 * const metrics = { accuracy: classAccuracy(model) };
 * // There is one class.
 * assertEquals(await evaluateMetrics(gpu, { metrics, params: model.params, batches: [batch] }), { accuracy: 1 });
 * ```
 */
export function classAccuracy<P extends object, I extends object>(
  model: Model<P, I>,
): Metric<P, ClassBatch<I>> {
  const { count } = classLoss(model);
  const mean = (params: P, batch: ClassBatch<I>): Tensor => {
    const labels = cast(batch.labels), found = cast(argmax(logits({ ...model, params }, batch), -1));
    return divide(sum(equal(found, labels)), maximum(sum(less(-0.5, labels)), 1));
  };
  return { mean: Object.assign(mean, { count }), better: "higher" };
}
