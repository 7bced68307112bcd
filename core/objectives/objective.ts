/**
 * Objectives: losses of a model that come with numbers to watch.
 *
 * @module
 */

import type { Loss, LossMetrics, LossMode } from "../models/loss.ts";
import type { Model } from "../models/model.ts";
import { fingerprintOf } from "../models/tasks.ts";
import type { Tensor } from "../tensor.ts";

/**
 * A loss of a model, for training and evaluation, with what is to be watched of it.
 *
 * @typeParam P Parameters
 * @typeParam B A batch
 */
export interface Objective<P extends object, B extends object> extends Loss<P, B> {
  /** How much a batch weighs. */
  count(batch: B): number;
  /** What is to be watched, under the names that TRL gives it. */
  readonly metrics: LossMetrics<P, B>;
}

/** What an objective computes of a batch. */
export interface Terms {
  /** The loss, f32 scalar. */
  readonly loss: Tensor;
  /** What is to be watched by name, f32 scalars. */
  readonly metrics: Readonly<Record<string, Tensor>>;
}

/** What {@link defineObjective} needs besides the model. */
export interface ObjectiveDefinition<P extends object, I extends object, B extends object> {
  /** Its name and settings: a saved run goes on only with the same. */
  readonly settings: readonly unknown[];
  /** Names of what is to be watched, in order. */
  readonly names: readonly string[];
  /** Computes a batch; the model has the parameters that are meant, and says whether it is being trained. */
  readonly compute: (model: Model<P, I>, batch: B) => Terms;
  /** How much a batch weighs. */
  readonly count: (batch: NoInfer<B>) => number;
}

/**
 * Makes an objective of a model, without the dropout of its configuration, by which policy and reference would differ. It has the model's `trainable`, and a fingerprint of its configuration and of the settings.
 *
 * @param model The model
 * @param definition What it computes
 * @returns The objective
 */
export function defineObjective<P extends object, I extends object, B extends object>(
  model: Model<P, I>,
  { settings, names, compute, count }: ObjectiveDefinition<P, I, B>,
): Objective<P, B> {
  const termsOf = (params: P, batch: B, { training = false }: LossMode = {}): Terms =>
    compute({ ...model, params, training }, batch);
  return Object.assign((params: P, batch: B, mode?: LossMode) => termsOf(params, batch, mode).loss, {
    count,
    trainable: model.trainable,
    model: fingerprintOf(model, { dropout: 0, more: settings }),
    metrics: {
      names,
      compute(params: P, batch: B, mode?: LossMode): readonly Tensor[] {
        const { metrics } = termsOf(params, batch, mode);
        return names.map((name) => metrics[name]);
      },
    },
  });
}
