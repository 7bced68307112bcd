/**
 * Batches of pairs: an answer that is better and one that is worse, or an answer and one that belongs to another prompt.
 *
 * Axes: B pairs, T time. A batch has 2 B rows: first all first members, then all second ones.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { InputError } from "../errors.ts";
import type { Model } from "../models/model.ts";
import type { TokenBatch } from "../models/tasks.ts";
import { withoutAdapter } from "../models/with_adapter.ts";
import { add, cast, divide, multiply } from "../ops/arithmetic.ts";
import { softplus } from "../ops/softplus.ts";
import { sum } from "../ops/broadcast.ts";
import { equal, maximum, minimum, where } from "../ops/comparison.ts";
import { IGNORE, nextLabels } from "../ops/cross_entropy.ts";
import { slice } from "../ops/movement.ts";
import { stopGradient } from "../ops/stop_gradient.ts";
import { hostValues } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import { rowLogProbabilities } from "./label_log_probabilities.ts";

/** A batch of pairs of answers. */
export interface PairBatch extends TokenBatch {
  /** i32 [2 B, T]: prompts with their first answers, then prompts with their second ones. */
  readonly inputIds: Tensor;
  /** i32 [2 B, T]: the ids of the answers; -100 for prompts and padding. A pair whose first answer has none does not count. */
  readonly labels: Tensor;
  /** f32 [2 B]: log-probabilities of the answers under the reference, as `referenceLogProbabilities` finds them. */
  readonly reference?: Tensor;
}

/** What a function knows of the members of pairs. */
export interface Halves {
  /** Of the first members, [B]. */
  readonly first: Tensor;
  /** Of the second members, [B]. */
  readonly second: Tensor;
}

/**
 * Divides rows into those of first and of second members.
 *
 * @param x [2 B, ...]
 * @returns Two tensors [B, ...]
 * @throws {InputError} When the number of rows is odd
 */
export function halves(x: Tensor): Halves {
  const [rows, ...rest] = x.shape;
  if (rows % 2 !== 0) {
    throw new InputError(
      `Cannot use a batch of pairs as its rows must be all first members, then all second ones: it has ${
        counted(rows, "row")
      }`,
    );
  }
  const zeros = rest.map(() => 0), sizes = [rows / 2, ...rest];
  return {
    first: slice(x, { starts: [0, ...zeros], sizes }),
    second: slice(x, { starts: [rows / 2, ...zeros], sizes }),
  };
}

/**
 * How many pairs of a batch count.
 *
 * @param batch The batch, made from values
 * @returns Pairs whose first answer has a label that something precedes
 */
export function countPairs({ labels }: Pick<PairBatch, "labels">): number {
  const values = hostValues(labels, "labels"), [rows, time] = labels.shape;
  let count = 0;
  for (let row = 0; row < rows / 2; row++) {
    if (values.subarray(row * time + 1, (row + 1) * time).some((label) => label !== IGNORE)) count++;
  }
  return count;
}

/**
 * Labels of each row.
 *
 * @param labels i32 [B, T]
 * @returns f32 [B]: how many are predicted
 */
export function labelCounts(labels: Tensor): Tensor {
  return sum(where(equal(cast(nextLabels(labels)), IGNORE), 0, 1), 1);
}

/**
 * The mean over what counts.
 *
 * @param x f32 [B]
 * @param counted f32 [B], 1 where a row counts, else 0
 * @returns f32 scalar; 0 where none counts
 */
export function meanOf(x: Tensor, counted: Tensor): Tensor {
  return divide(sum(where(equal(counted, 0), 0, x)), maximum(sum(counted), 1));
}

/**
 * `log(sigmoid(x))`, without overflow.
 *
 * @param x f32
 * @returns f32 of the same shape
 */
export function logSigmoid(x: Tensor): Tensor {
  return multiply(softplus(multiply(x, -1)), -1);
}

/**
 * Log-probabilities of the answers under the reference: those of the batch, else those of the model without its adapter, else
 * those of another model.
 *
 * @param model The policy
 * @param options The batch, the name of the objective, and a reference model
 * @returns f32 [2 B], through which no gradient flows
 * @throws {InputError} When there is no reference
 */
export function referenceOf(
  model: Model,
  { batch, name, reference }: {
    readonly batch: PairBatch;
    readonly name: string;
    readonly reference?: Model;
  },
): Tensor {
  if (batch.reference !== undefined) return batch.reference;
  if (reference === undefined && model.adapter === undefined) {
    throw new InputError(
      `Cannot compute "${name}" as it needs a reference: the batch has no "reference", and the model has no adapter that ` +
        'could be off; give batches of withReference, or the option "reference"',
    );
  }
  return stopGradient(rowLogProbabilities(reference ?? withoutAdapter({ ...model, training: false }), batch));
}

/** Log-probabilities of the answers under policy and reference, f32 [B] each. */
export interface PairLogProbabilities {
  readonly policy: Halves;
  readonly reference: Halves;
  /** How many tokens the answers have. */
  readonly tokens: Halves;
  /** 1 where a pair counts, else 0. */
  readonly counted: Tensor;
}

/**
 * What losses of preferences are made of.
 *
 * @param model The policy
 * @param options The batch, the name of the objective, and a reference model
 * @returns Log-probabilities of the answers
 */
export function pairLogProbabilities(
  model: Model,
  options: { readonly batch: PairBatch; readonly name: string; readonly reference?: Model },
): PairLogProbabilities {
  const { batch } = options, tokens = halves(labelCounts(batch.labels));
  return {
    policy: halves(rowLogProbabilities(model, batch)),
    reference: halves(referenceOf(model, options)),
    tokens,
    counted: minimum(tokens.first, 1),
  };
}

/** Names of {@link rewardMetrics}. */
export const REWARD_METRICS = [
  "rewards/chosen",
  "rewards/rejected",
  "rewards/accuracies",
  "rewards/margins",
] as const;

/**
 * What is watched of preferences.
 *
 * @param rewards Rewards of the better and of the other answers, f32 [B]
 * @param counted f32 [B]: 1 where a pair counts, else 0
 * @returns Means, through which no gradient flows
 */
export function rewardMetrics({ first, second }: Halves, counted: Tensor): Record<string, Tensor> {
  const mean = (x: Tensor): Tensor => stopGradient(meanOf(x, counted));
  const margin = add(first, multiply(second, -1));
  return {
    "rewards/chosen": mean(first),
    "rewards/rejected": mean(second),
    "rewards/accuracies": mean(where(equal(maximum(margin, 0), 0), 0, 1)),
    "rewards/margins": mean(margin),
  };
}
