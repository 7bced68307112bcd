/**
 * Optimizers, what is chained around them, and schedules of learning rates.
 *
 * | | paper | state of a matrix [R, C] in f32 numbers |
 * |---|---|---|
 * | {@link sgd} | momentum and Nesterov's momentum | R C with momentum, else none |
 * | {@link adam}, {@link adamW} | arXiv 1412.6980, arXiv 1711.05101 | 2 R C |
 * | {@link adamW8bit} | arXiv 2110.02861 | R C / 2 |
 * | {@link scheduleFreeAdamW} | arXiv 2405.15682 | 2 R C |
 * | {@link lion} | arXiv 2302.06675 | R C |
 * | {@link adafactor} | arXiv 1804.04235 | R + C |
 * | {@link muon} | https://kellerjordan.github.io/posts/muon | R C |
 *
 * Rates by step: {@link constantRate}, {@link linearRate}, {@link cosine}, {@link cosineRestarts}, {@link warmupStableDecay},
 * {@link polynomialRate}, {@link inverseRootRate} and {@link oneCycle}, all with warm-up; or a function of your own.
 *
 * {@link chain} puts {@link clipByGlobalNorm} before an optimizer and {@link weightAverage} behind it; {@link partition} gives
 * parameters different optimizers, or one with different settings. All of them declare what they keep, so that freezing,
 * thawing, checkpoints and signals work with each, also with one of your own: see {@link Optimizer}.
 *
 * @module
 */

export type { AdamMomentOptions } from "./adam_step.ts";
export { adafactor, type AdafactorOptions } from "./adafactor.ts";
export { adam, type AdamOptions } from "./adam.ts";
export { adamW, type AdamWOptions } from "./adamw.ts";
export { adamW8bit, type AdamW8bitOptions } from "./adamw_8bit.ts";
export { clipByGlobalNorm, type ClipOptions, globalNorm } from "./clip.ts";
export { cosineRestarts, type CosineRestartsOptions } from "./cosine_restarts.ts";
export { globs, type PathPattern } from "./glob.ts";
export { gradientMoments, type GradientMomentsOptions } from "./gradient_moments.ts";
export { lion, type LionOptions } from "./lion.ts";
export { loraPlus, type LoraPlusOptions } from "./lora_plus.ts";
export { muon, type MuonOptions } from "./muon.ts";
export {
  chain,
  initMoments,
  type Moment,
  type MomentMeaning,
  momentPath,
  type Optimizer,
  type OptimizerStep,
} from "./optimizer.ts";
export { oneCycle, type OneCycleOptions } from "./one_cycle.ts";
export { type GroupSettings, parameterGroups, type RateOptions } from "./parameter_groups.ts";
export { type ParameterGroup, partition } from "./partition.ts";
export { scheduleFreeAdamW, type ScheduleFreeOptions } from "./schedule_free.ts";
export {
  constantRate,
  cosine,
  type DecayOptions,
  type InverseRootOptions,
  inverseRootRate,
  linearRate,
  type PolynomialOptions,
  polynomialRate,
  type Schedule,
  type ScheduleOptions,
} from "./schedules.ts";
export { sgd, type SgdOptions } from "./sgd.ts";
export { warmupStableDecay, type WarmupStableDecayOptions } from "./warmup_stable_decay.ts";
export { weightAverage } from "./weight_average.ts";
export type { WeightDecayOptions } from "./weight_decay.ts";
