/**
 * What training is made of: its state, its options, and the reducer over them.
 *
 * @module
 */

import type { MatmulVariant } from "../../kernels/matmul/types.ts";
import type { KernelTime } from "../runtime/profile.ts";
import type { Cost, Precision } from "../plan/types.ts";
import type { Optimizer } from "../optim/optimizer.ts";
import type { Component, FreezePolicy, Json, Look, Reason } from "../policy.ts";
import type { HostData, Spec, Tensor } from "../tensor.ts";
import type { Leaves, Path } from "../tree.ts";

/** A record of tensors. */
export type TensorTree = object;

/** How matrix products are computed: on the same adapter, by the same version, the same bits come out again. */
export interface Chosen {
  /** Name of the adapter. */
  readonly adapter: string;
  /** Variants by product. */
  readonly variants: { readonly [product: string]: MatmulVariant };
}

/** Step after which each thawed component thawed; its optimizer state is that old. 0 for all others. */
export type ThawSteps = { readonly [component: Path]: number };

/** A change of the frozen set, and what a step costs before and after. */
export interface FreezeEvent {
  /** Step after which it holds. */
  readonly step: number;
  /** Components frozen by it. */
  readonly frozen: readonly Path[];
  /** Components thawed by it. */
  readonly thawed: readonly Path[];
  /** Why it froze what it froze, where the policy says. */
  readonly reasons: { readonly [component: Path]: Reason };
  /** What a step cost until then. */
  readonly before: Cost;
  /** What a step costs from then on; zero when training ended by it. */
  readonly after: Cost;
}

/** The mean loss over the validation batches after a step. */
export interface Validation {
  /** The step. */
  readonly step: number;
  /** The loss. */
  readonly loss: number;
}

/** What `cachePrefix` keeps at the moment. */
export interface CachedPrefix {
  /** Samples whose values are kept. */
  readonly samples: number;
  /** Samples that there is room for; 0 while there is nothing to keep. */
  readonly room: number;
  /** Bytes that the device holds for them. */
  readonly bytes: number;
  /** Why there is nothing to keep, in words; null when there is something. */
  readonly reason: string | null;
}

/** Why and where training ended. */
export interface Ending {
  /** All steps are taken, everything is frozen, or the policy stopped. */
  readonly reason: "steps" | "frozen" | "stopped";
  /** The last step. */
  readonly step: number;
  /** The step whose parameters the state has, by choice of the policy; null for those of the last. */
  readonly best: number | null;
}

/** Everything that a step needs, and all that a checkpoint holds. */
export interface TrainingState<P extends TensorTree> {
  /** Optimizer, policy, length, looks and validations of the training, in words; only such a training can go on with it. */
  readonly settings: string;
  /** Steps taken. */
  readonly step: number;
  /** Parameters, f32 or, where they are not trained, bf16, on the device. */
  readonly params: P;
  /** Loss of the last step, f32 scalar; reading it waits for the device. Null before the first step. */
  readonly loss: Tensor | null;
  /** Moments of the active parameters, what signals need, and the best parameters so far where they are others. */
  readonly leaves: Leaves;
  /** State of the freeze policy; null before the first step. */
  readonly policy: Json;
  /** Paths of the frozen components. */
  readonly frozen: readonly Path[];
  /** Paths of those among them that steps measure all the same. */
  readonly probed: readonly Path[];
  /** Steps after which the optimizer's state for components that thawed began; 0 for those that it does not name. */
  readonly since: ThawSteps;
  /** The readings that this step delivered, every `lookEvery` steps; else null. */
  readonly look: Look | null;
  /** The change of the frozen set that this step brought; else null. */
  readonly event: FreezeEvent | null;
  /** What the last step cost, without what `cachePrefix` left out; null before the first. */
  readonly cost: Cost | null;
  /** How the products of its steps are computed; none before the first. */
  readonly chosen: Chosen;
  /** The last validation; null before the first, and without validation batches. */
  readonly validation: Validation | null;
  /** The best step so far by the policy; null where it names none. */
  readonly best: number | null;
  /** Why training ended; null while it goes on. */
  readonly ending: Ending | null;
  /** True when training ended. */
  readonly done: boolean;
}

/**
 * What {@link defineTraining} needs besides the loss.
 *
 * @typeParam B A validation batch
 */
export interface TrainingOptions<B extends TensorTree = never> {
  /** Turns gradients into updates. */
  readonly optimizer: Optimizer;
  /** Planned steps, T. */
  readonly steps: number;
  /** Freezes components; nothing is frozen when absent. */
  readonly policy?: FreezePolicy;
  /** Which parameters are trained; all when absent. */
  readonly trainable?: (path: Path) => boolean;
  /** Steps between looks; 10 when absent. 1 acts on every reading at once; the device rests at each, so steps of a millisecond take longer. */
  readonly lookEvery?: number;
  /**
   * Updates for which what thawed has a warm-up: the optimizer's state for it starts empty, so the n-th is scaled by
   * `n / thawWarmup` until then. 10 when absent, 0 for none.
   */
  readonly thawWarmup?: number;
  /**
   * Keeps what the frozen bottom of the model makes of each sample, and leaves its launches out of steps all of whose
   * samples were seen before; not when absent. The bits of the training stay the same.
   *
   * Kept is what the layers above read of all launches that depend on frozen parameters and on the sample alone, in at
   * most `bytes` on the device: 1 GiB when `true`. Samples are told apart by their content, so each epoch may shuffle
   * them. The first ones to come have the room, so an epoch that does not fit gains little: a step computes everything
   * where one of its samples is missing. All is forgotten when something below thaws, or when more freezes and the
   * bottom grows. `training.prefix()` tells what is kept, and `state.cost` what a step did.
   *
   * The bottom is frozen when all below it is, embedding and norms included. Policies that freeze the matrices of layers,
   * such as `snr()` and `gradES(...)`, leave those training, and nothing is kept: wrap them, as in `closePrefix(snr())`.
   */
  readonly cachePrefix?: boolean | { readonly bytes: number };
  /**
   * Batches of one shape on which the loss is computed at looks, when `every` steps have passed since the last time, and
   * after the last of the planned steps; never when absent. The policy sees the mean. What that takes on the device
   * stays there until the training is disposed of. It is stored as f32, whatever `precision` says.
   */
  readonly validation?: { readonly batches: readonly B[]; readonly every: number };
  /**
   * How values are stored between kernels; `"f32"` when absent. Parameters, moments and signals are f32 either way, and
   * kernels compute in f32.
   *
   * With `"f16"` activations and their gradients take half the memory, and products read copies of the weights that do.
   * The loss is scaled so that gradients do not vanish; a step whose gradients overflow is skipped: it counts, but
   * changes no weight, moment or previous gradient, and its signals are NaN. Needs an adapter with shader-f16.
   *
   * Values that a kernel passes on in registers are not rounded, so another frozen set, which fuses other kernels, may
   * change gradients of active parameters by a rounding of f16; with `"f32"` it changes no bit.
   */
  readonly precision?: Precision;
}

/** The reducer. */
export interface Training<P extends TensorTree, B extends TensorTree> {
  /**
   * Copies parameters to the device and makes the state of step 0.
   *
   * @throws {TypeError} When a parameter to be trained is stored as bf16
   */
  init(params: P): Promise<TrainingState<P>>;
  /**
   * Takes one step. The given state is consumed: its buffers hold the next one.
   *
   * A look comes after the step. So what throws there, a policy or a loss that is not finite, leaves no state to go on
   * with: the given one is consumed. Go on from a checkpoint, or from a `snapshot` taken before the step.
   *
   * @throws {ConsumedError} When the state was consumed before
   * @throws {NonFiniteError} When a look finds a loss that is not finite, or with `precision: "f16"` gradients that
   * overflow whatever the loss is scaled by
   * @throws {RangeError} When everything is frozen, the policy stopped, or it calls a step the best that is gone
   */
  next(state: TrainingState<P>, batch: B): Promise<TrainingState<P>>;
  /**
   * Continues from saved parts.
   *
   * @throws {TypeError} When optimizer, policy, length or looks are not those of the saved run, or a parameter to be
   * trained is stored as bf16
   */
  resume(saved: SavedState): Promise<TrainingState<P>>;
  /** What `cachePrefix` keeps; null without that option. */
  prefix(): CachedPrefix | null;
  /** Components of the model; empty before the first step. */
  readonly components: () => readonly Component[];
  /**
   * Time of each kernel of the last step's plan: takes that step once more and puts back what it changed. Steps that are
   * asked for meanwhile wait.
   *
   * @throws {TypeError} When the last step was of another state, or froze something, or the device has no timestamps
   * @throws {ConsumedError} When a step has consumed the state
   * @throws {OutOfMemoryError} When the device has no room for a copy of the state
   */
  profile(state: TrainingState<P>): Promise<KernelTime[]>;
  /**
   * What a step would cost with other components frozen, and some of those probed.
   *
   * @throws {TypeError} Before the first step
   */
  costOf(frozen: readonly Path[], probed?: readonly Path[]): Cost;
  /** Frees the intermediate values of the step at once; its states stay, and another step makes them anew. */
  [Symbol.dispose](): void;
}

/** A training state as plain data: what a checkpoint stores. */
export interface SavedState {
  /** Optimizer, policy, length, looks and validations of the training, in words. */
  readonly settings: string;
  /** Steps taken. */
  readonly step: number;
  /** Parameters. */
  readonly params: ReadonlyMap<Path, HostTensor>;
  /** Moments of the active parameters, the loss, and the readings since the last look. */
  readonly leaves: ReadonlyMap<Path, HostTensor>;
  /** State of the freeze policy. */
  readonly policy: Json;
  /** Paths of the frozen components. */
  readonly frozen: readonly Path[];
  /** Paths of the frozen components that are measured; none when absent. */
  readonly probed?: readonly Path[];
  /** When the optimizer's state for components that thawed began; all with the run when absent. */
  readonly since?: ThawSteps;
  /** The last validation; none when absent. */
  readonly validation?: Validation | null;
  /** The best step so far; none when absent. */
  readonly best?: number | null;
  /** Why training ended, where step and frozen set do not tell. */
  readonly ending?: Ending | null;
  /** How its products were computed. */
  readonly chosen?: Chosen;
}

/** Values with their spec. */
export interface HostTensor extends Spec {
  /** Row-major; of bf16 as f32. */
  readonly data: HostData;
}
