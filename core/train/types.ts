/**
 * The types of training: state, options, and the reducer over them.
 *
 * @module
 */

import type { MatmulVariant } from "../../kernels/matmul/types.ts";
import type { KernelTime } from "../runtime/profile.ts";
import type { Cost, Precision } from "../plan/types.ts";
import type { Optimizer } from "../optim/optimizer.ts";
import type { Component, FreezePolicy, Json, Look, Reason, RunInfo } from "../policy.ts";
import type { HostData } from "../sources.ts";
import type { Spec } from "../spec.ts";
import type { LossOn } from "../models/loss.ts";
import type { Tensor } from "../tensor.ts";
import type { Leaves, Path, TensorTree } from "../tree.ts";
import type { BatchChoice, LargestBatchOptions, StepMemory } from "./memory.ts";
import type { Exchanges, ExchangeTime, RanksTogether } from "./parameter_exchange.ts";
import type { SkippedSteps } from "./skipped_steps.ts";

/** Which kernel computes each matrix product. On one adapter and in one version, one choice gives the same bits. */
export type ChosenVariants = {
  /** Name of the adapter. */
  readonly adapter: string;
  /** Variants by product. */
  readonly variants: { readonly [product: string]: MatmulVariant };
};

/** Step after which each thawed component thawed; its optimizer state is that old. 0 for all others. */
export type ThawSteps = { readonly [component: Path]: number };

/** A change of the frozen set, and what a step costs before and after. JSON. */
export type FreezeEvent = {
  /** Step after which the change holds. */
  readonly step: number;
  /** Components that froze. */
  readonly frozen: readonly Path[];
  /** Components that thawed. */
  readonly thawed: readonly Path[];
  /** Why each component froze, when the policy says so. */
  readonly reasons: { readonly [component: Path]: Reason };
  /** What a step cost until then. */
  readonly before: Cost;
  /** What a step costs from then on; zero when training ended with it. */
  readonly after: Cost;
};

/** The mean loss over the labels of all validation batches after a step. */
export type Validation = {
  /** The step. */
  readonly step: number;
  /** The loss. */
  readonly loss: number;
};

/** What `cachePrefix` holds now. */
export type CachedPrefix = {
  /** Samples whose values are cached. */
  readonly samples: number;
  /** Samples that fit; 0 while there is nothing to cache. */
  readonly room: number;
  /** Bytes of the cache on the device. */
  readonly bytes: number;
  /** Why there is nothing to cache, for people; null when there is something. */
  readonly reason: string | null;
};

/** Why and when training ended. */
export type Ending = {
  /** All steps were taken, everything is frozen, or the policy stopped training. */
  readonly reason: "steps" | "frozen" | "stopped";
  /** The last step. */
  readonly step: number;
  /** The step whose parameters the state has, chosen by the policy; null for the last step. */
  readonly best: number | null;
};

/** What a run is: a saved state goes on only where each field is equal. JSON. */
export type RunSettings = {
  /** Name of the optimizer, with all its settings. */
  readonly optimizer: string;
  /** Fingerprint of the learning rates of all planned steps; null where the optimizer has none. */
  readonly rates: string | null;
  /** Name of the freeze policy, with all its settings; null without one. */
  readonly policy: string | null;
  /** Planned steps. */
  readonly steps: number;
  /** Steps between looks. */
  readonly lookEvery: number;
  /** Warm-up updates after a thaw. */
  readonly thawWarmup: number;
  /** How values are stored between kernels. */
  readonly precision: string;
  /** Most batches of a step; absent in states of earlier versions, where it is 1. */
  readonly accumulate?: number;
  /** True where looks tell what clipping multiplied gradients by; absent where nothing clips, and in states of earlier versions. */
  readonly clips?: boolean;
  /** Steps between validations; null for none. */
  readonly validateEvery: number | null;
  /** Fingerprint of the validation batches; null for none. */
  readonly validation: string | null;
  /** Fingerprint of the data, as the option `data` gives it; null without one. */
  readonly data: string | null;
  /** Fingerprint of the model's configuration, as the loss gives it; null where it gives none. */
  readonly model: string | null;
  /** How many parameters are trained. */
  readonly trained: number;
  /** How many there are. */
  readonly parameters: number;
  /** Fingerprint of the paths of those that are trained. */
  readonly trainable: string;
  /** How ranks exchange parameters, and how many there are; null where they do not, absent in states of earlier versions. */
  readonly exchange?: string | null;
};

/** Everything that the next step needs, and that a checkpoint holds. */
export interface TrainingState<P extends TensorTree> {
  /** What the run is. A state resumes only under equal settings. */
  readonly settings: RunSettings;
  /** Steps taken. */
  readonly step: number;
  /** Parameters on the device: f32, or in fewer bytes when they are not trained. */
  readonly params: P;
  /** Loss of the last step, f32 scalar; null before the first step. Reading it waits for the device. */
  readonly loss: Tensor | null;
  /** Optimizer state, readings, and copies of the best weights so far. */
  readonly leaves: Leaves;
  /** State of the freeze policy; null before the first step. */
  readonly policy: Json;
  /** Paths of the frozen components. */
  readonly frozen: readonly Path[];
  /** Paths of the frozen components that steps measure. */
  readonly probed: readonly Path[];
  /** Step after which each thawed component thawed. */
  readonly since: ThawSteps;
  /** Steps that updated nothing, so that bias corrections do not count them. */
  readonly skipped: SkippedSteps;
  /**
   * With precision `"f16"`: whether values of the forward pass were too large for f16, so that those that may be are stored as
   * f32 from there on.
   */
  readonly wide: boolean;
  /** The readings since the last look, after every `lookEvery` steps; else null. */
  readonly look: Look | null;
  /** The change of the frozen set after this step; null when there was none. */
  readonly event: FreezeEvent | null;
  /**
   * What the last step cost, without launches that `cachePrefix` left out; null before the first step. Of a step whose batch
   * has no labels: what it would cost with labels. JSON.
   */
  readonly cost: Cost | null;
  /** How long the last step took to add up what the ranks have; absent where one process trains, and before the first step. */
  readonly exchange?: ExchangeTime;
  /** Which kernels compute the products of its steps; none before the first step. */
  readonly chosen: ChosenVariants;
  /** The last validation; null before the first one, or without validation batches. */
  readonly validation: Validation | null;
  /** The best step so far, chosen by the policy; null when it chooses none. */
  readonly best: number | null;
  /** What made the run go back to this state, after which step; absent but right after that. */
  readonly rolledBack?: { readonly from: number; readonly why: string };
  /**
   * The adapter that took the steps so far, where a saved run goes on on another one: its next steps have other bits than they
   * would have there. Absent but right after `resume`.
   */
  readonly movedFrom?: string;
  /** Why training ended; null while it goes on. */
  readonly ending: Ending | null;
  /** How often ranks have exchanged parameters; absent where they do not, and before the first step. */
  readonly exchanges?: Exchanges;
  /** True when training ended. */
  readonly done: boolean;
}

/**
 * What {@link defineTraining} needs besides the loss.
 *
 * @typeParam B A validation batch
 */
export interface TrainingOptions<B extends TensorTree = never> extends RanksTogether {
  /** Turns gradients into updates. */
  readonly optimizer: Optimizer;
  /** Planned steps, T. */
  readonly steps: number;
  /** Freezes components; none when absent. */
  readonly policy?: FreezePolicy;
  /** Which parameters are trained; those of the loss when absent: `nextTokenLoss(model)` has the model's. */
  readonly trainable?: (path: Path) => boolean;
  /** Steps between looks; 10 when absent. With 1 the policy acts after each step; the device is idle during a look, which short steps notice. */
  readonly lookEvery?: number;
  /**
   * Warm-up updates after a thaw; 10 when absent, 0 for none. A thawed component starts with empty optimizer state, so its
   * n-th update is scaled by `n / thawWarmup`.
   */
  readonly thawWarmup?: number;
  /**
   * Caches the output of the frozen bottom of the model for each sample, and leaves out its launches in steps whose samples
   * are all cached; no cache when absent. The bits of the training stay the same.
   *
   * The bottom is every launch that depends only on frozen parameters and on the sample; the cache holds what the layers
   * above read of it, in at most `bytes` on the device: 1 GiB when `true`. Samples are compared by content, so each epoch
   * may shuffle them. The first samples to come fill the cache. An epoch that does not fit gains little: a step computes
   * everything when one of its samples is missing. The cache is cleared when something below thaws, and when more freezes
   * and the bottom grows. `training.prefix()` describes the cache, and `state.cost` what a step did.
   *
   * The bottom is frozen when all of it is, embedding and norms included. Policies that freeze the matrices of layers, such
   * as `snr()` and `gradES(...)`, leave embedding and norms training, so nothing is cached: wrap them, as in
   * `closePrefix(snr())`. Where random numbers are drawn in the bottom, as by dropout, nothing is cached: BERT and its like drop
   * a tenth unless the loss is told otherwise, as in `classLoss(model, { dropout: 0 })`.
   */
  readonly cachePrefix?: boolean | { readonly bytes: number };
  /**
   * Batches of one shape, whose mean loss is computed at the first look after `every` steps, and after the last planned
   * step; never when absent. It is the mean over the labels of all batches, as the loss counts them, and what the policy
   * sees. `loss` is the one to compute where it is not that of training, which may have dropout or regularization. Values are stored as f32, whatever `precision` is. The recording
   * stays on the device until the training is disposed of.
   */
  readonly validation?: {
    readonly batches: readonly B[];
    readonly every: number;
    readonly loss?: LossOn<NoInfer<B>>;
  };
  /**
   * Batches of a step, 1 when absent. With more, `next` takes a list of up to so many, of one shape, and `scan` makes the lists. The
   * step is that of all their samples in one batch: gradients, loss and signals are sums over the batches, each weighted by
   * its labels. It needs memory for one batch, and for a sum of each gradient.
   */
  readonly accumulate?: number;
  /**
   * Bytes that training may take on the device, such as `"8 GiB"`; no limit when absent. Where a step needs more, its backward
   * pass computes blocks of the forward pass again instead of keeping their values: as few as fit, first those that save most
   * bytes by operation. Results have the same bits with `precision: "f32"`. `training.memory()` tells what was chosen.
   *
   * It counts parameters, optimizer state, gradients, values of a step, the batch and `cachePrefix`; not the model that `init`
   * copies, unless that is freed, nor validation. The first step throws when no choice fits.
   */
  readonly memory?: number | string;
  /**
   * What is done where a loss or a gradient is not finite; `stop` when absent.
   *
   * - `stop`: the look that finds it throws
   * - `skip`: such a step changes no weight and no moment, and its readings are absent, so that nothing freezes by them. Every
   *   gradient is checked, which costs to read it once
   * - `rollback`: the look that finds it goes back to the state of the look before, which is kept on the device, and the run
   *   goes on from there with the next batches; `state.rolledBack` says so. It throws when that did not help three times
   */
  readonly nonFinite?: "stop" | "skip" | "rollback";
  /** Fingerprint of the data, such as that of `tokenWindows`: a saved run goes on only with the same. Not compared when absent. */
  readonly data?: string;
  /**
   * How values are stored between kernels; `"f32"` when absent. Parameters, moments and signals stay f32, and kernels
   * compute in f32.
   *
   * With `"f16"` activations and their gradients take half the memory, and products read f16 copies of the weights. A
   * training keeps these: updates write them beside the weights, and those of frozen weights are made once. The loss is
   * scaled so that gradients do not vanish. A step whose gradients overflow is skipped: it counts, but changes no weight,
   * moment or previous gradient, and its signals are NaN. Needs an adapter with shader-f16.
   *
   * Where a value of the forward pass is beyond the range of f16, the losses of the steps up to the next look are not finite, and
   * these steps are skipped. From then on all values that may be so large are stored as f32, which the state tells as `wide`.
   *
   * With `"f32x3"` all values are stored as f32, as with `"f32"`. Matrix units multiply them as pairs of f16: each row of the
   * left matrix and each column of the right one is scaled by a power of two, so that its largest number fits f16. Errors of products
   * are then about those of sums in f32, relative to the length of the row times that of the column, whatever these lengths
   * are. The limit is within one row or column: numbers below 2^-16 of its largest lose digits, and numbers below 2^-38 of it
   * count as zero. That matters only where such numbers meet large ones: if a row grows along its sum by as many powers of
   * ten as the column shrinks, all terms are alike, but most are lost. f32 has no such limit. Products of activations, weights and
   * gradients do not look like that; where yours do, use `"f32"`. A product of a row or column that holds a number which is
   * not finite is not finite. Needs matrix units of f16 operands and f32 sums, as `openGpu({ gpu: "dawn" })` gives on NVIDIA.
   * Attention computes as with `"f32"`.
   *
   * Values that stay in registers are not rounded. So with `"f16"` another frozen set, which fuses other kernels, may change
   * gradients of active parameters by a rounding; with `"f32"` and `"f32x3"` it changes no bit.
   */
  readonly precision?: Precision;
}

/** What a run that goes on may change. */
export interface ResumeOptions {
  /** Whether the learning rate may be another than that of the saved run; false when absent. */
  readonly newRate?: boolean;
}

/** The reducer. */
export interface Training<P extends TensorTree, B extends TensorTree> {
  /**
   * Makes the state of step 0. Parameters that are trained are copied; those that are not share the memory of a model that was
   * loaded or made on the device, which is freed with the last of both.
   *
   * @throws {InputError} When a parameter to be trained is stored in fewer bytes than f32
   */
  init(params: P): Promise<TrainingState<P>>;
  /**
   * Takes one step of a batch, or of a list of batches where options have `accumulate`. The given state is consumed: its
   * buffers hold the next one.
   *
   * The look comes after the step. When it throws, as for a loss that is not finite, what the step wrote is freed, and there is
   * no next one: continue from a checkpoint, or from a `snapshot` taken before the step.
   *
   * @throws {ConsumedError} When the state was consumed before
   * A batch of which the loss counts no label is a step that changes no weight and no moment; its loss and signals are NaN.
   *
   * @throws {NonFiniteError} When a look finds a loss or a measured gradient that is not finite, or with `precision: "f16"` gradients that
   * overflow whatever the loss is scaled by
   * @throws {InputError} When everything is frozen, the policy stopped, or the weights of its best step were not kept
   */
  next(state: TrainingState<P>, batch: B | readonly B[]): Promise<TrainingState<P>>;
  /** Batches of a step, as its options have it. */
  readonly accumulate: number;
  /**
   * Continues from a saved state. The error for another training names what differs.
   *
   * @throws {InputError} When optimizer, policy, length or looks are not those of the saved run, or a parameter to be
   * trained is stored in fewer bytes than f32
   */
  resume(saved: SavedState, options?: ResumeOptions): Promise<TrainingState<P>>;
  /**
   * Hands the weights of a state that are to be evaluated and kept to some work. They are its parameters, but for optimizers
   * that average weights (`weightAverage`, `scheduleFreeAdamW`): those have weights of their own, which are freed after the work.
   *
   * @throws {ConsumedError} When a step has consumed the state
   */
  withWeights<R>(state: TrainingState<P>, use: (weights: P) => Promise<R>): Promise<R>;
  /**
   * Finds the largest batch whose step fits a limit of memory with nothing computed again, by planning: the device takes no
   * step and no memory. Where one sample does not fit so, it is chosen if it fits with values computed again. A step has
   * `accumulate` batches of that size in the memory of one.
   *
   * @throws {InputError} When neither options nor training have a limit, as WebGPU tells none, or one sample does not fit
   */
  largestBatch(options: LargestBatchOptions<P, B>): BatchChoice;
  /** What `cachePrefix` holds; null without that option. */
  prefix(): CachedPrefix | null;
  /** What the last step takes on the device, and what it computes again; null before the first step and without `memory`. */
  memory(): StepMemory | null;
  /** Components of the model of the last step; empty before the first step. */
  readonly components: () => readonly Component[];
  /** What the policy is told of the run of the last step; null before the first step. A log keeps it. */
  readonly info: () => RunInfo | null;
  /**
   * Measures the time of each kernel of the last step: takes the step once more, then restores what it changed. Other steps
   * wait meanwhile.
   *
   * @throws {InputError} When the last step was of another state, or froze something, or the device has no timestamps
   * @throws {ConsumedError} When a step has consumed the state
   * @throws {OutOfMemoryError} When the device has no room for a copy of the state
   */
  profile(state: TrainingState<P>): Promise<KernelTime[]>;
  /**
   * What the last step would cost with other components frozen, and some of them probed.
   *
   * @throws {InputError} Before the first step
   */
  costOf(frozen: readonly Path[], probed?: readonly Path[]): Cost;
  /** Frees the recorded step and its intermediate values. States stay, and the next step records it anew. */
  [Symbol.dispose](): void;
}

/** A training state as plain data: what a checkpoint stores. */
export interface SavedState {
  /** What the run is; an earlier version of Firn saved less of it. */
  readonly settings: Partial<RunSettings>;
  /** Steps taken. */
  readonly step: number;
  /** Parameters. */
  readonly params: ReadonlyMap<Path, HostTensor>;
  /** Optimizer state, the loss, readings since the last look, and copies of the best weights. */
  readonly leaves: ReadonlyMap<Path, HostTensor>;
  /** State of the freeze policy. */
  readonly policy: Json;
  /** Paths of the frozen components. */
  readonly frozen: readonly Path[];
  /** Paths of the frozen components that steps measure; none when absent. */
  readonly probed?: readonly Path[];
  /** Step after which each thawed component thawed; none when absent. */
  readonly since?: ThawSteps;
  /** Steps that updated nothing; none when absent. */
  readonly skipped?: SkippedSteps;
  /** Whether values of the forward pass were too large for f16; false when absent. */
  readonly wide?: boolean;
  /** The last validation; none when absent. */
  readonly validation?: Validation | null;
  /** The best step so far; none when absent. */
  readonly best?: number | null;
  /** Why training ended; follows from step and frozen set when absent. */
  readonly ending?: Ending | null;
  /** Which kernels computed its products. */
  readonly chosen?: ChosenVariants;
  /** How often ranks had exchanged parameters; absent where they do not. */
  readonly exchanges?: Exchanges;
}

/** Values on the host with their spec. */
export interface HostTensor extends Spec {
  /** Row-major; f32 where the device stores fewer bytes, or the words that it stores for int8 and nf4. */
  readonly data: HostData;
}
