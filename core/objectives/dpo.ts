/**
 * Direct preference optimization.
 *
 * @module
 */

import { checkOptions, checkRange, refuse } from "../arguments.ts";
import type { Model } from "../models/model.ts";
import { checkTask } from "../models/tasks.ts";
import { add, divide, multiply, subtract } from "../ops/arithmetic.ts";
import { relu } from "../ops/activations.ts";
import { maximum } from "../ops/comparison.ts";
import type { Tensor } from "../tensor.ts";
import { defineObjective, type Objective } from "./objective.ts";
import {
  countPairs,
  logSigmoid,
  meanOf,
  type PairBatch,
  type PairLogProbabilities,
  pairLogProbabilities,
  REWARD_METRICS,
  rewardMetrics,
} from "./pairs.ts";

/** Options of {@link dpoLoss}. */
export interface DpoOptions {
  /** How much it costs to leave the reference; 0.1 when absent. For `ipo` it is the paper's tau. */
  readonly beta?: number;
  /**
   * Share of pairs that are taken to be the wrong way round; 0 when absent. For `sigmoid` alone. Source: Mitchell, "A note on
   * DPO with noisy preferences & relationship to IPO" (cDPO), equation 3.
   */
  readonly labelSmoothing?: number;
  /**
   * What is made of the margin; `sigmoid` when absent. `ipo`: Azar et al., arXiv 2310.12036, equation 17, with log-probabilities
   * per token, as TRL has it. `hinge`: Zhao et al., SLiC-HF, arXiv 2305.10425.
   */
  readonly type?: "sigmoid" | "ipo" | "hinge";
  /** A reference that is computed with each batch, where batches have no `reference` and the model no adapter. */
  readonly reference?: Model;
}

/**
 * The loss of preferences without a reward model: `-log sigmoid(beta * (log-ratio of chosen - log-ratio of rejected))`, ratios of
 * the policy to the reference.
 *
 * The reference is the `reference` of a batch, which is computed once before training. Without it, a model with an adapter is its
 * own reference with the adapter off: the base is in memory once.
 *
 * Source: Rafailov et al., "Direct Preference Optimization", arXiv 2305.18290, equation 7.
 *
 * @param model The policy
 * @param options The settings
 * @returns The objective, a mean over pairs; `rewards/...` and `logps/...` are its metrics
 * @throws {InputError} When the model does not predict tokens, or a setting is out of its range
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { newAdapter, newModel } from "@firn/train/hub";
 * import { dpoLoss } from "@firn/train/objectives";
 *
 * await using gpu = await openGpu();
 * const source = { model_type: "llama", hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1,
 *   num_attention_heads: 2, vocab_size: 10, tie_word_embeddings: true };
 * const model = await newAdapter(gpu, await newModel(gpu, { source, seed: 1 }), { rank: 2, targets: ["q_proj"] });
 * // A pair: 3 is better after 1, 2 than 4.
 * const inputIds = tensor(new Int32Array([1, 2, 3, 1, 2, 4]), [2, 3]);
 * const labels = tensor(new Int32Array([-100, -100, 3, -100, -100, 4]), [2, 3]);
 * const loss = dpoLoss(model, { beta: 0.1 })(model.params, { inputIds, labels });
 * // A new adapter changes nothing: the policy is the reference.
 * assertAlmostEquals((await read(gpu, loss))[0], Math.LN2, 1e-6);
 * ```
 */
export function dpoLoss<P extends object>(
  model: Model<P>,
  options: DpoOptions = {},
): Objective<P, PairBatch> {
  checkTask(model, ["nextToken"]);
  const { beta = 0.1, labelSmoothing = 0, type = "sigmoid", reference } = options;
  checkOptions("dpoLoss", options);
  checkRange("dpoLoss", { beta }, { least: Number.MIN_VALUE });
  checkRange("dpoLoss", { labelSmoothing }, { least: 0, below: 0.5 });
  if (!["sigmoid", "ipo", "hinge"].includes(type)) {
    refuse("dpoLoss", '"type" must be sigmoid, ipo or hinge', type);
  }
  if (labelSmoothing > 0 && type !== "sigmoid") {
    refuse("dpoLoss", '"labelSmoothing" is for the type sigmoid', labelSmoothing);
  }
  return defineObjective(model, {
    settings: ["dpo", { beta, labelSmoothing, type }],
    names: [...REWARD_METRICS, "logps/chosen", "logps/rejected"],
    count: countPairs,
    compute(policy, batch) {
      const found = pairLogProbabilities(policy, { batch, name: "dpoLoss", reference });
      const { policy: logps, reference: base, counted } = found;
      const rewards = {
        first: multiply(subtract(logps.first, base.first), beta),
        second: multiply(subtract(logps.second, base.second), beta),
      };
      const margin = subtract(rewards.first, rewards.second);
      return {
        loss: meanOf(lossesOf(margin, { found, beta, labelSmoothing, type }), counted),
        metrics: {
          ...rewardMetrics(rewards, counted),
          "logps/chosen": meanOf(logps.first, counted),
          "logps/rejected": meanOf(logps.second, counted),
        },
      };
    },
  });
}

/** The losses of pairs by their margins, which hold beta. */
function lossesOf(
  margin: Tensor,
  { found, beta, labelSmoothing, type }: Required<Pick<DpoOptions, "beta" | "labelSmoothing" | "type">> & {
    readonly found: PairLogProbabilities;
  },
): Tensor {
  if (type === "hinge") return relu(subtract(1, margin));
  if (type === "ipo") {
    const { policy, reference, tokens } = found;
    const perToken = (member: "first" | "second"): Tensor =>
      divide(subtract(policy[member], reference[member]), maximum(tokens[member], 1));
    const off = subtract(subtract(perToken("first"), perToken("second")), 1 / (2 * beta));
    return multiply(off, off);
  }
  const right = multiply(logSigmoid(margin), labelSmoothing - 1);
  if (labelSmoothing === 0) return right;
  return add(right, multiply(logSigmoid(multiply(margin, -1)), -labelSmoothing));
}
