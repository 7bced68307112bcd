/**
 * What the passes of the planner hand to each other.
 *
 * @module
 */

import type { KernelText, Target } from "../kernel_call.ts";
import type { AgedScalar, HostData, StepFunction } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import type { Path } from "../tree.ts";

/** Where the contents of a buffer come from. A leaf, or the result of a root, may be some rows of a larger buffer. */
export type Source =
  | { readonly kind: "slot"; readonly slot: number }
  | { readonly kind: "leaf"; readonly node: Tensor }
  | { readonly kind: "result"; readonly node: Tensor }
  | { readonly kind: "kept" }
  | { readonly kind: "host"; readonly data: HostData }
  | { readonly kind: "scalars" }
  | { readonly kind: "table"; readonly rows: readonly AgedScalar[]; readonly columns: number };

/** A kernel, and its buffers in binding order. */
export interface BoundText {
  readonly kernel: KernelText;
  readonly bindings: readonly number[];
}

/** One dispatch of the recorded step. */
export interface Launch extends BoundText {
  /** The kernels that share it, with the bindings that each would have alone; absent when it has one. */
  readonly parts?: readonly BoundText[];
  /** Bytes read and written, each buffer once. */
  readonly bytes: number;
  /** Floating-point operations of matrix products among `kernel.flops`. */
  readonly matmulFlops: number;
}

/** What a step costs. Plain JSON, which a policy can keep in its state: hence a type, which is assignable to `Json`. */
export type Cost = {
  /** Dispatches. */
  readonly launches: number;
  /** Floating-point operations, all kernels. */
  readonly flops: number;
  /** Floating-point operations of matrix products, attention included. */
  readonly matmulFlops: number;
  /** Bytes that kernels read and write. */
  readonly bytes: number;
  /** Bytes of buffers for intermediate values. */
  readonly memory: number;
  /** Bytes of buffers for constants, and for scalars that change with the step. */
  readonly constants: number;
  /** Bytes that a rank gives to be added up with those of the others; absent where one process trains. */
  readonly exchanged?: number;
};

/** A scalar that the host computes for each step; the function is told the age of the group. */
export interface StepValue {
  readonly value: StepFunction;
  readonly group: number;
}

/** What the ages of parameters follow from. */
export interface Ages {
  /** For each group, how many updates of the run came before its first one; none when absent. */
  readonly starts: readonly number[];
  /** Steps that updated nothing, as far as the host knows. */
  readonly skipped: number;
  /** Those among them that the device left out. */
  readonly judged: number;
  /** The last step of which the host knows whether the device left it out. */
  readonly until: number;
}

/** A recorded computation. */
export interface Plan {
  readonly launches: readonly Launch[];
  /** Launches that make the f16 copies of weights that the plan keeps, before its first run. */
  readonly copies: WeightCopies;
  /** Index of the first launch that overwrites a leaf; the number of launches when none does. */
  readonly firstUpdate: number;
  readonly buffers: readonly PlannedBuffer[];
  /** Sizes of the shared slots. */
  readonly slots: readonly number[];
  /** Buffer of each root, in the order given. */
  readonly roots: readonly number[];
  /** Slots whose buffer is swapped with that of a leaf after each step; see {@link PlanOptions.doubleBuffered}. */
  readonly doubleBuffers: readonly DoubleBuffer[];
  /** What fills the scalar buffer: functions of the step and of the age of a group. */
  readonly scalars: readonly StepValue[];
  readonly cost: Cost;
  /** Launches that a step may skip, or the reason why there are none; absent when none were asked for. */
  readonly prefix?: Prefix | string;
  /** What the backward pass computes again; absent when nothing may be. */
  readonly recomputed?: Recomputed;
}

/** Blocks of the forward pass that the backward pass computes again. */
export interface Recomputed {
  /** How many there are. */
  readonly blocks: number;
  /** How many there could be. */
  readonly of: number;
}

/** What the backward pass may compute again, so that it is not kept until then. */
export interface RecomputeOptions {
  /** What the forward pass computes: a node of the graph. */
  readonly loss: Tensor;
  /** How many blocks to compute again: those first that save most bytes by operation. */
  readonly blocks: number;
  /** Whether a leaf is an entry of the batch. */
  readonly isBatch: (path: Path) => boolean;
}

/** Launches that make the copies of weights that a plan keeps. */
export interface WeightCopies {
  /** Copies of weights that nobody changes. */
  readonly fixed: readonly Launch[];
  /** The others: these run again where not the last run of the plan, but somebody else has changed the weights. */
  readonly changing: readonly Launch[];
}

/** A buffer of a plan. */
export interface PlannedBuffer {
  readonly source: Source;
  readonly bytes: number;
}

/** A slot that holds the next value of a leaf, and the buffer of the leaf. */
export interface DoubleBuffer {
  readonly slot: number;
  readonly leaf: number;
}

/**
 * How values are stored between the launches of a plan, and multiplied. Kernels compute in f32 either way. With `"f32x3"` all
 * values are stored as f32, and matrix units multiply them as pairs of f16 (see `kernels/matmul/pairs.ts`).
 */
export type Precision = "f32" | "f16" | "f32x3";

/** Options of `plan`. */
export interface PlanOptions {
  readonly target: Target;
  /** Root index to the leaf whose buffer it overwrites. */
  readonly updates?: ReadonlyMap<number, Tensor>;
  /**
   * Indices of updates that may be double buffered: the buffers of root and leaf are swapped after the step, so that nothing
   * is copied. This costs the memory of the root. It is done where the root has a buffer of its own, not with `"f16"`, and
   * without `prefix`; none when absent.
   */
  readonly doubleBuffered?: ReadonlySet<number>;
  /**
   * `"f16"` stores large values between launches as f16, and products read f16 copies of their weights; `"f32x3"` multiplies f32
   * by matrix units; f32 when absent.
   */
  readonly precision?: Precision;
  /**
   * With `"f16"`: which f16 copies of weights are kept between runs of the plan, beside those of weights that it updates; all
   * are made in each run when absent.
   */
  readonly weightKind?: WeightKind;
  /** With `"f16"`: whether values of the forward pass that may go beyond the range of f16 stay f32; false when absent. */
  readonly wide?: boolean;
  /** Moves launches to the front that depend on samples and fixed leaves alone, and keeps their results; not when absent. */
  readonly prefix?: PrefixOptions;
  /** Values that the backward pass computes again; none when absent. */
  readonly recompute?: RecomputeOptions;
  /** Whether leaves are overwritten as soon as they can be, as somebody waits for each; false when absent. */
  readonly prompt?: boolean;
  /** Kernels of earlier plans, which need not be written again; none when absent. */
  readonly texts?: TextCache;
}

/** What a leaf is: an entry of the batch, a parameter that does not change, or null for a parameter that does. */
export type LeafKind = (path: Path) => "batch" | "fixed" | null;

/**
 * What becomes of a weight between runs of a plan: it stays as it is, or changes where the caller then asks for copies anew;
 * null for a weight whose copy is made in each run.
 */
export type WeightKind = (path: Path) => "fixed" | "changing" | null;

/** A value of the prefix that launches after it read. */
export interface KeptValue {
  /** Its buffer. */
  readonly buffer: number;
  /** Bytes of one sample; the samples lie one after the other. */
  readonly bytes: number;
}

/** Launches near the start of a plan that a step may skip. */
export interface Prefix {
  /** How many launches run before it in any case, as launches after it need them too. */
  readonly head: number;
  /** How many launches it has. */
  readonly launches: number;
  /** Samples in a batch. */
  readonly samples: number;
  /** Its values that launches after it read. */
  readonly kept: readonly KeptValue[];
  /** The node of each value that it reads from the head, by buffer. */
  readonly given: ReadonlyMap<number, Tensor>;
  /** Paths of the leaves that it depends on. */
  readonly reads: readonly Path[];
  /** What a step costs that skips it. */
  readonly rest: Cost;
}

/** What decides about the prefix of a plan. */
export interface PrefixOptions {
  /** Samples in a batch. */
  readonly samples: number;
  readonly kindOf: LeafKind;
}

/** A memory of kernels that were written. */
export interface TextCache {
  /** Makes a function remember its results: equal requests get the same one. Where a key is known, `keyOf` need not find it. */
  remembered<A, R>(make: (request: A) => R, keyOf?: (request: A) => string): (request: A) => R;
  /** A string that is equal for equal requests; functions in a request are equal when they are the same. */
  keyOf(request: unknown): string;
}

/** A buffer that has no memory yet; `source` is null for an intermediate value. */
export interface Buffer {
  readonly source: Source | null;
  readonly bytes: number;
}

/** How a launch can write its only output over an input. */
export interface InPlace {
  /** Buffer of the input. */
  readonly input: number;
  /** The kernel for that case: it binds the other inputs in order, then the input that it overwrites. */
  readonly kernel: () => KernelText;
}

/** A launch whose place in the order is not decided yet. */
export interface Unit {
  readonly kernel: KernelText;
  /** Buffers in binding order. */
  readonly bindings: readonly number[];
  readonly reads: readonly number[];
  readonly writes: readonly number[];
  /** Written buffers that hold an older value, which other units read first. */
  readonly overwrites: readonly number[];
  /** Index in the order of the graph; launches of lower index are preferred. */
  readonly priority: number;
  readonly matmulFlops: number;
  readonly inPlace?: InPlace;
  /** For a matrix product, and for attention, the buffers of its operands. */
  readonly operands?: readonly number[];
  /** Whether it allocates so little beside what it reads, leaves included, that it never waits for its turn. */
  readonly early?: boolean;
  /** The kernels that share the launch, and their buffers; absent when it has one. */
  readonly parts?: readonly BoundText[];
}

/** A group of elementwise nodes of one shape that one kernel computes. */
export interface Cluster {
  readonly nodes: readonly Tensor[];
  /** Nodes whose values are written to memory. */
  readonly stored: readonly Tensor[];
  /** Nodes whose elements are summed for a `sumEach`. */
  readonly summed: readonly Tensor[];
}

/** What is known of each node. */
export type Known<T> = Pick<ReadonlyMap<Tensor, T>, "get">;

/** A graph whose elementwise nodes are grouped. */
export interface Fusion {
  /** Values that must exist in memory. */
  readonly roots: ReadonlySet<Tensor>;
  /** All nodes, inputs first. */
  readonly order: readonly Tensor[];
  /** The place of each node in that order. */
  readonly places: Known<number>;
  /** Nodes that read each node. */
  readonly readers: Known<readonly Tensor[]>;
  /** Launch level: grows along every edge that fusion cannot remove. */
  readonly level: Known<number>;
  /** Clusters that have something to write. */
  readonly clusters: readonly Cluster[];
  /** Cluster of each elementwise node. */
  readonly clusterOf: Known<Cluster>;
  /** Elementwise nodes that are in memory; the others are computed again by whoever reads them. */
  readonly stored: ReadonlySet<Tensor>;
}

/** What groups must fit. */
export interface FuseOptions {
  /** Nodes that overwrite a leaf, and the leaf. */
  readonly targets: ReadonlyMap<Tensor, Tensor>;
  /** How many buffers a launch can bind, and how much workgroup memory it has. */
  readonly target: Pick<Target, "maxBindings" | "workgroupBytes">;
}

/** Whether an output of a node is stored as f16. */
export type IsHalf = (node: Tensor, output?: number) => boolean;

/** Whether a value may be beyond the range of f16. */
export type IsLarge = (node: Tensor) => boolean;

/** The roots of a graph, and how they get to their buffers. */
export interface WrittenRoots {
  /** The roots, each computed by a launch. */
  readonly roots: readonly Tensor[];
  /** Roots that overwrite a leaf, and the leaf. */
  readonly targets: ReadonlyMap<Tensor, Tensor>;
  /** Indices of roots whose buffer is swapped with that of a leaf after the step, and the leaf. */
  readonly doubleBuffered: ReadonlyMap<number, Tensor>;
}

/** A graph in ops that have a kernel, with the decisions which nodes share a launch and how values are stored. */
export interface Prepared extends WrittenRoots {
  /** For each root that was asked for, its first one here: a root may be computed by rows. */
  readonly places: readonly number[];
  readonly fusion: Fusion;
  readonly isHalf: IsHalf;
  /** Whether a value that is stored as f32 may be beyond the range of f16: only in plans that ask for it. */
  readonly isLarge: IsLarge;
  /** Products that share a launch, by the first of them. */
  readonly batched: ReadonlyMap<Tensor, readonly Tensor[]>;
  /** Whether matrix units multiply f32 as pairs of f16. */
  readonly paired: boolean;
  readonly recomputed?: Recomputed;
}
