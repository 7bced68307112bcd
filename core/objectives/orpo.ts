/**
 * Odds ratio preference optimization.
 *
 * @module
 */

import { checkOptions, checkRange } from "../arguments.ts";
import type { Model } from "../models/model.ts";
import { checkTask } from "../models/tasks.ts";
import { add, divide, multiply, negate, subtract } from "../ops/arithmetic.ts";
import { sum } from "../ops/broadcast.ts";
import { equal, maximum, minimum, where } from "../ops/comparison.ts";
import { log, tanh } from "../ops/functions.ts";
import type { Tensor } from "../tensor.ts";
import { rowLogProbabilities } from "./label_log_probabilities.ts";
import { defineObjective, type Objective } from "./objective.ts";
import {
  countPairs,
  halves,
  labelCounts,
  logSigmoid,
  meanOf,
  type PairBatch,
  REWARD_METRICS,
  rewardMetrics,
} from "./pairs.ts";

/** Options of {@link orpoLoss}. */
export interface OrpoOptions {
  /** How much the ratio of odds weighs, the paper's lambda; 0.1 when absent. */
  readonly beta?: number;
}

/**
 * The loss of better answers and of the odds of better to other answers, in one step and without a reference: the mean negative
 * log-likelihood of the tokens of better answers, less `beta * log sigmoid(log-odds of chosen - log-odds of rejected)`. The odds of
 * an answer are those of the mean log-probability of its tokens.
 *
 * Source: Hong et al., "ORPO: Monolithic Preference Optimization without Reference Model", arXiv 2403.07691, equations 4 to 7.
 * TRL's first term is over prompts too; this one is over answers, as the paper has it. It is a mean over the tokens of a batch, as
 * TRL's is: of each part of a step that is accumulated or shared by ranks, so that answers of unlike lengths weigh a little otherwise
 * than in one batch.
 *
 * @param model The policy
 * @param options The settings
 * @returns The objective, a mean over pairs; its metrics are those of TRL
 * @throws {InputError} When the model does not predict tokens, or beta is out of its range
 */
export function orpoLoss<P extends object>(
  model: Model<P>,
  options: OrpoOptions = {},
): Objective<P, PairBatch> {
  checkTask(model, ["nextToken"]);
  checkOptions("orpoLoss", options);
  const { beta = 0.1 } = options;
  checkRange("orpoLoss", { beta }, { least: 0 });
  return defineObjective(model, {
    settings: ["orpo", { beta }],
    names: [...REWARD_METRICS, "nll_loss", "log_odds_ratio", "log_odds_chosen"],
    count: countPairs,
    compute(policy, batch) {
      const tokens = halves(labelCounts(batch.labels)), sums = halves(rowLogProbabilities(policy, batch));
      const counted = minimum(tokens.first, 1);
      const perToken = (member: "first" | "second"): Tensor =>
        // Pairs that do not count have odds too.
        where(equal(counted, 0), -1, divide(sums[member], maximum(tokens[member], 1)));
      const first = perToken("first"), second = perToken("second");
      const odds = subtract(logOdds(first), logOdds(second)), ratio = logSigmoid(odds);
      const nll = divide(negate(sum(sums.first)), maximum(sum(tokens.first), 1));
      return {
        loss: subtract(nll, multiply(meanOf(ratio, counted), beta)),
        metrics: {
          ...rewardMetrics({ first: multiply(first, beta), second: multiply(second, beta) }, counted),
          "nll_loss": nll,
          "log_odds_ratio": meanOf(ratio, counted),
          "log_odds_chosen": meanOf(odds, counted),
        },
      };
    },
  });
}

/** Least distance of a mean log-probability from 0, where odds are infinite. */
const LEAST = 2 ** -24;

/** `log(p / (1 - p))` of `log p`: with `t = tanh(x / 2)`, `1 - e^x` is `-2 t / (1 - t)`, which loses no digits. */
function logOdds(logProbability: Tensor): Tensor {
  const x = minimum(logProbability, -LEAST), t = tanh(multiply(x, 0.5));
  const rest = add(log(multiply(t, -2)), negate(log(subtract(1, t))));
  return subtract(x, rest);
}
