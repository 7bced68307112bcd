/**
 * Group relative policy optimization.
 *
 * Axes: B answers, T time.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { checkOptions, checkRange, refuse } from "../arguments.ts";
import { InputError } from "../errors.ts";
import type { Model } from "../models/model.ts";
import { checkTask, type TokenBatch } from "../models/tasks.ts";
import { add, cast, divide, multiply, negate, subtract } from "../ops/arithmetic.ts";
import { sum } from "../ops/broadcast.ts";
import { clamp, equal, less, maximum, minimum, where } from "../ops/comparison.ts";
import { IGNORE, nextLabels } from "../ops/cross_entropy.ts";
import { exp } from "../ops/functions.ts";
import { reshape } from "../ops/movement.ts";
import { stopGradient } from "../ops/stop_gradient.ts";
import { hostValues } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import { labelLogProbabilities } from "./label_log_probabilities.ts";
import { defineObjective, type Objective } from "./objective.ts";

/** A batch of answers that the policy gave, and how good they were. */
export interface GrpoBatch extends TokenBatch {
  /** i32 [B, T]: the ids of the answers; -100 for prompts and padding. */
  readonly labels: Tensor;
  /** f32 [B]: how much better than the others of its group each answer was, as `groupAdvantages` tells. */
  readonly advantages: Tensor;
  /**
   * f32 [B, T]: log-probabilities of the answers under the policy that gave them, as `tokenLogProbabilities` places them; those
   * of the policy of the step when absent, which is right where each answer serves one step.
   */
  readonly old?: Tensor;
  /** f32 [B, T]: the same under the reference. It is needed with a `beta` above 0. */
  readonly reference?: Tensor;
}

/** Options of {@link grpoLoss}. */
export interface GrpoOptions {
  /** How much it costs to leave the reference; 0.04 when absent, as in the paper. TRL's default is 0. */
  readonly beta?: number;
  /** How far a token's probability may fall before its gradient ends; 0.2 when absent. */
  readonly epsilon?: number;
  /** How far it may rise; `epsilon` when absent. */
  readonly epsilonHigh?: number;
  /**
   * What tokens weigh; `grpo` when absent: each answer alike, as in the paper. `dapo`: each token alike, Yu et al., arXiv
   * 2503.14476. `dr_grpo`: each token alike, divided by `B * maxTokens`, Liu et al., arXiv 2503.20783.
   */
  readonly type?: "grpo" | "dapo" | "dr_grpo";
  /** Most tokens of an answer, for `dr_grpo`. */
  readonly maxTokens?: number;
}

/**
 * The loss of answers that a policy gave, weighed by how much better they were than others to the same prompt: the clipped surrogate
 * of PPO for each token, and a divergence from the reference, `exp(d) - d - 1` with `d` the log-ratio of reference to policy.
 *
 * Source: Shao et al., "DeepSeekMath", arXiv 2402.03300, equations 3 and 4.
 *
 * @param model The policy
 * @param options The settings
 * @returns The objective; `kl` and `clip_ratio` are its metrics
 * @throws {InputError} When the model does not predict tokens, or a setting is out of its range
 */
export function grpoLoss<P extends object>(
  model: Model<P>,
  options: GrpoOptions = {},
): Objective<P, GrpoBatch> {
  checkTask(model, ["nextToken"]);
  checkOptions("grpoLoss", options);
  const { beta = 0.04, epsilon = 0.2, epsilonHigh = epsilon, type = "grpo", maxTokens } = options;
  checkRange("grpoLoss", { beta }, { least: 0 });
  checkRange("grpoLoss", { epsilon }, { least: 0, below: 1 });
  checkRange("grpoLoss", { epsilonHigh }, { least: 0 });
  if (!["grpo", "dapo", "dr_grpo"].includes(type)) {
    refuse("grpoLoss", '"type" must be grpo, dapo or dr_grpo', type);
  }
  if (type === "dr_grpo" && !(Number.isSafeInteger(maxTokens) && maxTokens! > 0)) {
    refuse("grpoLoss", '"maxTokens" must be the most tokens of an answer with the type dr_grpo', maxTokens);
  }
  return defineObjective(model, {
    settings: ["grpo", { beta, epsilon, epsilonHigh, type, maxTokens: maxTokens ?? null }],
    names: ["kl", "clip_ratio"],
    count: (batch) => countOf(batch, type),
    compute(policy, { advantages, old, reference, ...batch }) {
      if (beta > 0 && reference === undefined) {
        throw new InputError(
          'Cannot compute "grpoLoss" as it needs a reference: the batch has none; give "reference", or a "beta" of 0',
        );
      }
      const logps = labelLogProbabilities(policy, batch), [rows] = logps.shape;
      const asked = where(equal(cast(nextLabels(batch.labels)), IGNORE), 0, 1);
      const ratio = exp(subtract(logps, old ?? stopGradient(logps))), gain = reshape(advantages, [rows, 1]);
      const clipped = clamp(ratio, { min: 1 - epsilon, max: 1 + epsilonHigh });
      const surrogate = minimum(multiply(ratio, gain), multiply(clipped, gain));
      const away = reference === undefined ? null : subtract(reference, logps);
      const kl = away === null ? null : subtract(subtract(exp(away), away), 1);
      const losses = kl === null || beta === 0
        ? negate(surrogate)
        : add(negate(surrogate), multiply(kl, beta));
      const tokens = maximum(sum(asked), 1),
        meanOfTokens = (x: Tensor): Tensor => stopGradient(divide(sum(multiply(x, asked)), tokens));
      const cut = where(less(multiply(clipped, gain), multiply(ratio, gain)), 1, 0);
      return {
        loss: reduced(multiply(losses, asked), { asked, type, maxTokens }),
        metrics: { kl: meanOfTokens(kl ?? multiply(logps, 0)), "clip_ratio": meanOfTokens(cut) },
      };
    },
  });
}

/** The loss of a batch from those of its tokens, 0 where none is asked about. */
function reduced(
  losses: Tensor,
  { asked, type, maxTokens }: { readonly asked: Tensor } & Pick<GrpoOptions, "type" | "maxTokens">,
): Tensor {
  if (type === "dapo") return divide(sum(losses), maximum(sum(asked), 1));
  const lengths = sum(asked, 1), answers = maximum(sum(minimum(lengths, 1)), 1);
  if (type === "dr_grpo") return divide(sum(losses), multiply(answers, maxTokens!));
  return divide(sum(divide(sum(losses, 1), maximum(lengths, 1))), answers);
}

/** What a batch weighs: tokens, or answers. */
function countOf({ labels }: GrpoBatch, type: GrpoOptions["type"]): number {
  const values = hostValues(labels, "labels"), [rows, time] = labels.shape;
  const lengths = Array.from(
    { length: rows },
    (_, row) => values.subarray(row * time + 1, (row + 1) * time).filter((label) => label !== IGNORE).length,
  );
  return type === "dapo" ? lengths.reduce((a, b) => a + b, 0) : lengths.filter((length) => length > 0).length;
}

/** Options of {@link groupAdvantages}. */
export interface AdvantageOptions {
  /** Answers to each prompt, which stand side by side. */
  readonly group: number;
  /** Whether advantages are divided by the deviation of their group; true when absent. `dr_grpo` leaves that out. */
  readonly scale?: boolean;
}

/**
 * How much better each answer was than the others of its group.
 *
 * @param rewards A reward for each answer; answers to one prompt stand side by side
 * @param options Answers to a prompt, and whether they are scaled
 * @returns Rewards less the mean of their group, divided by its deviation (of a sample, as in TRL); 0 where all of a group are alike
 * @throws {InputError} When the rewards are no whole number of groups
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { groupAdvantages } from "@firn/train/objectives";
 *
 * assertEquals([...groupAdvantages([1, 0, 1, 1], { group: 2, scale: false })], [0.5, -0.5, 0, 0]);
 * ```
 */
export function groupAdvantages(
  rewards: readonly number[],
  { group, scale = true }: AdvantageOptions,
): Float32Array<ArrayBuffer> {
  if (!(Number.isSafeInteger(group) && group >= 2 && rewards.length % group === 0)) {
    throw new InputError(
      `Cannot compare answers as groups must be of 2 or more, and all whole: got ${
        counted(rewards.length, "reward")
      } in groups of ${group}`,
    );
  }
  const advantages = new Float32Array(rewards.length);
  for (let begin = 0; begin < rewards.length; begin += group) {
    const own = rewards.slice(begin, begin + group), mean = own.reduce((a, b) => a + b) / group;
    const square = own.reduce((sum, reward) => sum + (reward - mean) ** 2, 0) / (group - 1);
    own.forEach((reward, i) => {
      advantages[begin + i] = (reward - mean) / (scale ? Math.sqrt(square) + 1e-4 : 1);
    });
  }
  return advantages;
}
