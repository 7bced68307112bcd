/**
 * Kahneman-Tversky optimization.
 *
 * Axes: B answers, T time.
 *
 * @module
 */

import { checkOptions, checkRange } from "../arguments.ts";
import { InputError } from "../errors.ts";
import type { Model } from "../models/model.ts";
import { checkTask } from "../models/tasks.ts";
import { divide, multiply, subtract } from "../ops/arithmetic.ts";
import { sum } from "../ops/broadcast.ts";
import { equal, maximum, minimum, where } from "../ops/comparison.ts";
import { sigmoid } from "../ops/functions.ts";
import { stopGradient } from "../ops/stop_gradient.ts";
import type { Tensor } from "../tensor.ts";
import { rowLogProbabilities } from "./label_log_probabilities.ts";
import { defineObjective, type Objective } from "./objective.ts";
import { countPairs, halves, labelCounts, meanOf, type PairBatch, referenceOf } from "./pairs.ts";

/** A batch of answers that are good or not. The second member of a pair is an answer to another prompt, for the reference point. */
export interface KtoBatch extends PairBatch {
  /** f32 [2 B]: 1 where the answer of a first member is good, 0 where not; those of second members are not read. */
  readonly desirable: Tensor;
}

/** Options of {@link ktoLoss}. */
export interface KtoOptions {
  /** How much it costs to leave the reference; 0.1 when absent. */
  readonly beta?: number;
  /** Weight of good answers; 1 when absent. */
  readonly desirableWeight?: number;
  /** Weight of the others; 1 when absent. The paper advises weights that even out how many there are of each. */
  readonly undesirableWeight?: number;
  /** A reference that is computed with each batch, where batches have no `reference` and the model no adapter. */
  readonly reference?: Model;
}

/**
 * The loss of answers that are good or not, one by one: `w (1 - sigmoid(beta * (r - z)))` for a good answer with log-ratio `r`, and
 * `w (1 - sigmoid(beta * (z - r)))` for another. The reference point `z` is the mean log-ratio of answers to prompts that they do not
 * belong to, at least 0, through which no gradient flows: it estimates the divergence from the reference. A batch has its own,
 * and so has each part of a step that is accumulated or shared by ranks.
 *
 * Source: Ethayarajh et al., "KTO: Model Alignment as Prospect Theoretic Optimization", arXiv 2402.01306, equations 7 and 8.
 *
 * @param model The policy
 * @param options The settings
 * @returns The objective, a mean over answers; `rewards/...` and `kl` are its metrics
 * @throws {InputError} When the model does not predict tokens, or a setting is out of its range
 */
export function ktoLoss<P extends object>(
  model: Model<P>,
  options: KtoOptions = {},
): Objective<P, KtoBatch> {
  checkTask(model, ["nextToken"]);
  checkOptions("ktoLoss", options);
  const { beta = 0.1, desirableWeight = 1, undesirableWeight = 1, reference } = options;
  checkRange("ktoLoss", { beta }, { least: Number.MIN_VALUE });
  checkRange("ktoLoss", { desirableWeight, undesirableWeight }, { least: 0 });
  return defineObjective(model, {
    settings: ["kto", { beta, desirableWeight, undesirableWeight }],
    names: ["rewards/chosen", "rewards/rejected", "rewards/margins", "kl"],
    count: countPairs,
    compute(policy, batch) {
      const ids = halves(batch.inputIds), labels = halves(batch.labels);
      refuseMasks(batch);
      const base = halves(referenceOf(policy, { batch, name: "ktoLoss", reference }));
      const own = rowLogProbabilities(policy, { inputIds: ids.first, labels: labels.first });
      // No gradient flows through the second members, so that their backward pass is left out.
      const other = rowLogProbabilities(policy, { inputIds: ids.second, labels: labels.second });
      const counted = minimum(labelCounts(labels.first), 1), apart = minimum(labelCounts(labels.second), 1);
      const kl = stopGradient(maximum(meanOf(subtract(other, base.second), apart), 0));
      const ratio = subtract(own, base.first), good = halves(batch.desirable).first;
      const signed = where(equal(good, 0), subtract(kl, ratio), subtract(ratio, kl));
      const weight = where(equal(good, 0), undesirableWeight, desirableWeight);
      const losses = multiply(weight, subtract(1, sigmoid(multiply(signed, beta))));
      return {
        loss: meanOf(losses, counted),
        metrics: { ...meansOf(multiply(ratio, beta), { good, counted }), kl },
      };
    },
  });
}

/** Mean rewards of good answers and of others; 0 where a batch has none. */
function meansOf(
  rewards: Tensor,
  { good, counted }: { readonly good: Tensor; readonly counted: Tensor },
): Record<string, Tensor> {
  const mean = (which: Tensor): Tensor => divide(sum(multiply(rewards, which)), maximum(sum(which), 1));
  const chosen = mean(multiply(good, counted)), rejected = mean(multiply(subtract(1, good), counted));
  return {
    "rewards/chosen": chosen,
    "rewards/rejected": rejected,
    "rewards/margins": subtract(chosen, rejected),
  };
}

/** Rows are divided, so that what else belongs to them would have to be, too. */
function refuseMasks({ attentionMask, segments }: KtoBatch): void {
  const found = attentionMask !== undefined ? "attentionMask" : segments !== undefined ? "segments" : null;
  if (found === null) return;
  throw new InputError(
    `Cannot compute "ktoLoss" on "${found}" as rows must be padded on the right without one: leave it out`,
  );
}
