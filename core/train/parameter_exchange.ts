/**
 * Options of training on several ranks, and what training asks of an exchange of parameters between ranks, which
 * `averageParameters` of `@firn/train/ranks` makes. Training itself does not import it: who trains alone does not download it.
 *
 * @module
 */

import type { Optimizer } from "../optim/optimizer.ts";
import type { Look } from "../policy.ts";
import type { Ranks } from "./ranks.ts";
import type { Gpu } from "../runtime/device.ts";
import type { Spec } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import type { Leaves, Path } from "../tree.ts";

/** Options of training about other processes. */
export interface RanksTogether {
  /**
   * The processes that train together, as `openRanks` of `@firn/train/ranks` gives them; this one alone when absent. Each takes
   * steps of its own batches, and the step is that of the samples of all ranks in one batch: gradients and loss are summed over
   * the ranks before the update, so that all have the same weights, signals and frozen sets, bit for bit. All need equal
   * parameters, options and frozen sets, and take the same steps.
   */
  readonly ranks?: Ranks & Partial<AddsGradients>;
  /**
   * What `ranks` exchange; gradients when absent, as `ranks` says. With `averageParameters({ every })` of `@firn/train/ranks` each rank
   * takes steps of its own batches alone, and every so many steps the parameters are averaged.
   *
   * A look with a policy or a validation comes after such an average, whatever `every` is. Its loss, metrics and signals are the
   * means over the ranks of what each measured with its own parameters and samples, so that policies decide the same on all;
   * `state.loss` is that of this rank alone. A component that freezes was averaged right before, and takes part no more.
   */
  readonly exchange?: { readonly of: "gradients" } | ParameterExchange;
}

/** How long the ranks of a training took to add up what they have, in one step. */
export interface ExchangeTime {
  /** Milliseconds in which sums were on their way to the other ranks, and back to the device. */
  readonly ms: number;
  /** Those of them after the backward pass; the others are hidden behind it. */
  readonly waitedMs: number;
  /**
   * Milliseconds in which this process waited for values of the device after the first, the ranks added up, and this process wrote the
   * sums back. They overlap. Absent where that is not measured.
   */
  readonly stages?: Readonly<Record<"read" | "sum" | "write", number>>;
}

/** A buffer of sums of gradients. */
export interface Summed {
  /** It. */
  readonly buffer: GPUBuffer;
  /** Its size. */
  readonly bytes: number;
  /** Submits the work that completes it, once; absent where that is submitted already. */
  readonly complete?: () => void;
}

/** Exchanges the sums of the gradients of a step. */
export interface Exchange {
  /**
   * Tells the other ranks how many labels this one has.
   *
   * @param labels Labels of the parts of this rank
   * @param what The step, and what its sums are
   * @returns Labels of all ranks
   * @throws {RanksError} When another rank is at another step, or has frozen something else
   */
  agree(labels: number, what: { readonly step: number; readonly key: string }): Promise<number>;
  /** What labels are counted in, a power of two; null until all ranks have agreed once. */
  readonly unit: number | null;
  /**
   * Replaces sums of this rank by those of all. All ranks get the same bits.
   *
   * @param sums Buffers, in the order in which they are completed
   * @param options `after`: nothing is given to the other ranks before that
   * @returns How long it took
   */
  sum(sums: readonly Summed[], options?: { readonly after?: Promise<unknown> }): Promise<ExchangeTime>;
  /** Bytes that this rank gave to the others so far. */
  readonly bytes: number;
  /** Frees its buffers. */
  destroy(): void;
}

/** What ranks of `openRanks` bring along: who trains alone does not download what adds up gradients. */
export interface AddsGradients {
  /**
   * Begins the exchanges of a training.
   *
   * @param gpu The device
   * @param ranks These ranks
   * @returns What exchanges sums of gradients
   */
  readonly gradients: (gpu: Gpu, ranks: Ranks) => Exchange;
}

/** How values of parameters are sent to other ranks. */
export type Wire = "f32" | "bf16" | "int8";

/** Steps of each rank alone, and averages of what they have made of the parameters. */
export interface ParameterExchange {
  /** What is exchanged. */
  readonly of: "parameters";
  /** Steps between exchanges. */
  readonly every: number;
  /** What makes a step of the mean change of the ranks; null where the mean of their parameters is taken. */
  readonly outer: Optimizer | null;
  /** How values are sent. */
  readonly wire: Wire;
  /** Steps that are taken while parameters are on their way. */
  readonly delay: number;
  /** Steps after which parameters are averaged besides; null where there are none. */
  readonly meetEvery: number | null;
  /**
   * Begins the exchanges of a training.
   *
   * @throws {InputError} When there are no ranks, or the optimizer keeps an average of the weights of one rank
   */
  open(
    gpu: Gpu,
    training: { readonly ranks: Ranks | null; readonly optimizer: Pick<Optimizer, "name" | "evaluated"> },
  ): OpenExchange;
}

/** A tensor of the state that exchanges need. */
export interface ExchangedSpec extends Spec {
  /** The parameter whose values it has at first; zeros when absent. */
  readonly copyOf?: Path;
}

/** Exchanges of parameters so far. JSON. */
export type Exchanges = {
  /** How many. */
  readonly count: number;
  /** The step whose parameters the last one averaged; 0 before the first. */
  readonly step: number;
  /** How many ranks there are. */
  readonly ranks: number;
  /** The step whose parameters are on their way; absent where none are. */
  readonly sent?: number;
};

/** A step that all ranks have taken. */
export interface SteppedAlone {
  /** Its number. */
  readonly step: number;
  /** All parameters after it. The buffers of those that are exchanged are overwritten. */
  readonly params: Leaves;
  /** Other state after it, with what {@link OpenExchange.specs} asks for. */
  readonly leaves: Leaves;
  /** Paths of the parameters that take part. */
  readonly active: readonly Path[];
  /** Exchanges so far; none where they begin. */
  readonly exchanges: Exchanges | undefined;
  /** Whether its parameters are judged, so that they must be those of all ranks. */
  readonly judged: boolean | undefined;
  /** Whether it is the last one. */
  readonly last: boolean;
}

/** A look of one rank or of all, and whether values of the forward pass were too large for f16. */
export interface LookOfRanks {
  /** What was measured. */
  readonly look: Look;
  /** Whether values were too large. */
  readonly wide: boolean;
}

/** The exchanges of a training. */
export interface OpenExchange {
  /** All settings, and the number of ranks: two runs with one text do the same. */
  readonly name: string;
  /** Tensors of the state by path, for parameters that take part. */
  specs(active: ReadonlyMap<Path, Spec>, trainable: readonly Path[]): ReadonlyMap<Path, ExchangedSpec>;
  /** Bytes that each rank gives to the others, as the mean of all steps, and those of the buffers of an exchange. */
  costOf(active: Iterable<Spec>): { readonly exchanged: number; readonly memory: number };
  /** Graphs whose random numbers no other rank draws. */
  drawnApart(roots: readonly Tensor[]): readonly Tensor[];
  /**
   * Averages parameters over the ranks after a step, when that is due. All have the same bits then, but where a delayed average is
   * added to what they have done meanwhile.
   *
   * @returns Exchanges so far, and how long that of this step took: nothing where none was due
   */
  after(taken: SteppedAlone): Promise<{ readonly exchanges: Exchanges; readonly exchange: ExchangeTime }>;
  /**
   * Averages a look over the ranks.
   *
   * @param own Makes the look of this rank
   * @throws {NonFiniteError} On all ranks, when that of one does
   */
  look(own: () => Promise<LookOfRanks>): Promise<LookOfRanks>;
  /** Frees its buffers. */
  destroy(): void;
}
