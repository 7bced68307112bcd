/**
 * A reward head, learned from preferences.
 *
 * @module
 */

import { checkOptions, checkRange } from "../arguments.ts";
import { InputError } from "../errors.ts";
import { type Model, outputOf } from "../models/model.ts";
import { checkTask, logits } from "../models/tasks.ts";
import { add, multiply, subtract } from "../ops/arithmetic.ts";
import { minimum } from "../ops/comparison.ts";
import { reshape } from "../ops/movement.ts";
import type { Tensor } from "../tensor.ts";
import { defineObjective, type Objective } from "./objective.ts";
import {
  countPairs,
  halves,
  labelCounts,
  logSigmoid,
  meanOf,
  type PairBatch,
  rewardMetrics,
} from "./pairs.ts";
import { REWARD_METRICS } from "./pairs.ts";

/** A batch of pairs for a reward head. Labels say which pairs count, and are not predicted. */
export interface RewardBatch extends PairBatch {
  /** f32 [2 B]: how far apart rewards should be at least; those of second members are not read. 0 when absent. */
  readonly margin?: Tensor;
}

/** Options of {@link rewardLoss}. */
export interface RewardOptions {
  /** Factor of the squared sum of both rewards, which keeps them about 0; 0 when absent. Source: Eisenstein et al., arXiv 2312.09244. */
  readonly centerCoefficient?: number;
}

/**
 * The loss of a model that gives each text one number, by which a better answer has the higher one (Bradley and Terry):
 * `-log sigmoid(reward of chosen - reward of rejected - margin)`.
 *
 * Source: Ouyang et al., arXiv 2203.02155, equation 1; the margin: Touvron et al., "Llama 2", arXiv 2307.09288, equation 2.
 *
 * @param model A model with a head for sequences that has one output
 * @param options The settings
 * @returns The objective, a mean over pairs; `rewards/...` are its metrics
 * @throws {InputError} When the model has another head, or the setting is out of its range
 */
export function rewardLoss<P extends object>(
  model: Model<P>,
  options: RewardOptions = {},
): Objective<P, RewardBatch> {
  checkTask(model, ["sequenceClass"]);
  checkOptions("rewardLoss", options);
  const { centerCoefficient = 0 } = options, [outputs] = outputOf(model).weight.shape;
  checkRange("rewardLoss", { centerCoefficient }, { least: 0 });
  if (outputs !== 1) {
    throw new InputError(
      `Cannot make a reward of "${model.architecture}" as its head must have one output: it has ${outputs}; load it with one label`,
    );
  }
  return defineObjective(model, {
    settings: ["reward", { centerCoefficient }],
    names: REWARD_METRICS,
    count: countPairs,
    compute(subject, batch) {
      const { labels, margin, reference: _, ...input } = batch;
      const rewards = halves(rowRewards(subject, input)),
        counted = minimum(labelCounts(halves(labels).first), 1);
      const apart = subtract(rewards.first, rewards.second);
      const ranked = meanOf(
        multiply(logSigmoid(margin === undefined ? apart : subtract(apart, halves(margin).first)), -1),
        counted,
      );
      const both = add(rewards.first, rewards.second);
      const center = multiply(meanOf(multiply(both, both), counted), centerCoefficient);
      return {
        loss: centerCoefficient === 0 ? ranked : add(ranked, center),
        metrics: rewardMetrics(rewards, counted),
      };
    },
  });
}

/**
 * Rewards that a model gives.
 *
 * @param model A model with a head for sequences that has one output
 * @param input Its input, of B rows
 * @returns f32 [B]
 */
export function rowRewards<I extends object>(model: Model<object, I>, input: I): Tensor {
  const scores = logits(model, input as I & (I extends object ? I : never));
  return reshape(scores, [scores.shape[0]]);
}
