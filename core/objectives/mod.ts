/**
 * Objectives: what a model is trained to do, as pure functions of parameters and a batch. Each is a loss for `defineTraining` and
 * `evaluate`, with numbers to watch under the names that TRL gives them, which looks have as `metrics`.
 *
 * | objective | batch |
 * | --- | --- |
 * | `nextTokenLoss`, `completionLoss` | tokens, of which all or those of answers are learned |
 * | `classLoss` | inputs and their classes |
 * | `distillationLoss` | tokens, and a teacher or its likeliest tokens |
 * | `dpoLoss`, `orpoLoss` | pairs of a better and another answer |
 * | `ktoLoss` | answers that are good or not |
 * | `rewardLoss` | pairs, for a head with one output |
 * | `grpoLoss` | answers of the policy itself, and how good they were |
 *
 * @module
 */

export { type ClassBatch, classLoss, nextTokenLoss, type TokenBatch } from "../models/tasks.ts";
/** The loss of answers alone: next tokens, where labels say which. Batches of prompts and completions have such labels. */
export { nextTokenLoss as completionLoss } from "../models/tasks.ts";
export { type DistillationBatch, distillationLoss, type DistillationOptions } from "./distillation.ts";
export { dpoLoss, type DpoOptions } from "./dpo.ts";
export {
  type AdvantageOptions,
  groupAdvantages,
  type GrpoBatch,
  grpoLoss,
  type GrpoOptions,
} from "./grpo.ts";
export { type KtoBatch, ktoLoss, type KtoOptions } from "./kto.ts";
export { labelLogProbabilities, rowLogProbabilities } from "./label_log_probabilities.ts";
export type { Objective } from "./objective.ts";
export { orpoLoss, type OrpoOptions } from "./orpo.ts";
export {
  type FullPairBatch,
  type PairBatches,
  pairBatches,
  type PairBatchesOptions,
} from "./pair_batches.ts";
export {
  type EncodePairOptions,
  encodePreference,
  feedbackSamples,
  type PairSamples,
  pairSamples,
  type PairSamplesOptions,
  type SamplePair,
} from "./pair_samples.ts";
export { evaluateObjective, type EvaluateObjectiveOptions } from "./evaluate_objective.ts";
export { countPairs, type PairBatch } from "./pairs.ts";
export { type ReferenceOptions, withReference } from "./reference.ts";
export { type TeacherOptions, withTeacher } from "./teacher.ts";
export { type RewardBatch, rewardLoss, type RewardOptions, rowRewards } from "./reward.ts";
