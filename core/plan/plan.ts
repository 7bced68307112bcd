/**
 * From a graph to a flat list of launches with a static memory plan. A function of the graph and the target alone.
 *
 * @module
 */

import { divideAttention } from "../ops/attention.ts";
import { matmulOp } from "../ops/matmul.ts";
import { broadcast, sumEachOp } from "../ops/broadcast.ts";
import { slice } from "../ops/movement.ts";
import { isReduce } from "../ops/reduce.ts";
import { rebuild, simplify } from "../graph.ts";
import {
  ELEMENT_BYTES,
  fillOp,
  type HostData,
  type KernelText,
  pickOp,
  sizeOf,
  type StepFunction,
  stepScalarOp,
  type StorageType,
  type Target,
  type Tensor,
} from "../tensor.ts";
import { absorb } from "./rewrite/fuse_residual.ts";
import { fuse, type Fusion, isElement, isSource } from "./fuse/fuse.ts";
import { copyWeights, halfValues, type IsHalf } from "./precision.ts";
import { writeInPlace } from "./memory/in_place.ts";
import { type Lifetime, planMemory } from "./memory/slots.ts";
import { createLowering } from "./lower/lower.ts";
import { type Cut, cutPrefix, type Prefix, type PrefixOptions } from "./prefix/cut.ts";
import { schedule } from "./memory/order.ts";
import { siblings, sumProducts } from "./lower/batch_matmuls.ts";
import type { TextCache } from "./lower/kernel_cache.ts";

/** Where the contents of a buffer come from. */
export type Source =
  | { readonly kind: "slot"; readonly slot: number }
  | { readonly kind: "leaf"; readonly node: Tensor }
  | { readonly kind: "kept" }
  | { readonly kind: "host"; readonly data: HostData }
  | { readonly kind: "scalars" };

/** One dispatch of the recorded step. */
export interface Launch {
  readonly kernel: KernelText;
  /** Buffers in binding order. */
  readonly bindings: readonly number[];
  /** Bytes read and written, each buffer once. */
  readonly bytes: number;
  /** Floating-point operations of matrix products among `kernel.flops`. */
  readonly matmulFlops: number;
}

/** What a step costs. */
export interface Cost {
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
}

/** A scalar of the step: its function, and the group whose age that is told. */
export interface StepValue {
  readonly value: StepFunction;
  readonly group: number;
}

/** A recorded computation. */
export interface Plan {
  readonly launches: readonly Launch[];
  /** Place of the first launch that overwrites a leaf; the number of launches where none does. */
  readonly firstUpdate: number;
  readonly buffers: readonly { readonly source: Source; readonly bytes: number }[];
  /** Sizes of the shared slots. */
  readonly slots: readonly number[];
  /** Buffer of each root, in the order given. */
  readonly roots: readonly number[];
  /** Slots that change places with the buffer of a leaf after each step; see {@link PlanOptions.turns}. */
  readonly turns: readonly Turn[];
  /** What fills the scalar buffer: functions of the step and of the age of a group. */
  readonly scalars: readonly StepValue[];
  readonly cost: Cost;
  /** Launches that a step may leave out, or why there are none, in words; absent where none were asked for. */
  readonly prefix?: Prefix | string;
}

/** A slot that holds the next value of a leaf, and the buffer of the leaf. */
export interface Turn {
  readonly slot: number;
  readonly leaf: number;
}

/** How values are stored between the launches of a plan; kernels compute in f32 either way. */
export type Precision = "f32" | "f16";

/** Options of {@link plan}. */
export interface PlanOptions {
  readonly target: Target;
  /** Root index to the leaf whose buffer it overwrites. */
  readonly updates?: ReadonlyMap<number, Tensor>;
  /**
   * Roots among them whose buffer may become that of the leaf after the step, and the other way round, so that nothing is
   * copied; it costs the memory of the root. Done where the root has a buffer of its own, with `"f32"` and without `prefix`;
   * none when absent.
   */
  readonly turns?: ReadonlySet<number>;
  /** `"f16"` stores large values between launches so, and products read copies of weights that are; f32 when absent. */
  readonly precision?: Precision;
  /** Puts launches first that only depend on samples and on what is fixed, and keeps their results; not when absent. */
  readonly prefix?: PrefixOptions;
  /** Kernels of plans before it, by what they do, which this one need not write again; none when absent. */
  readonly texts?: TextCache;
}

/**
 * Plans the computation of some tensors.
 *
 * @param roots What to compute
 * @param options Target, which roots overwrite a leaf, and the precision
 * @returns The plan
 * @throws {TypeError} When two updates need each other's old value
 */
export function plan(roots: readonly Tensor[], options: PlanOptions): Plan {
  const { ready, turning, ...prepared } = prepare(roots, options);
  const lowering = createLowering(prepared, options);
  const rootBuffers = ready.map((root) => lowering.bufferOf(root));
  const kept = new Set<number>();
  const temporaryBytes = (b: number): number =>
    lowering.buffers[b].source === null && !kept.has(b) ? lowering.buffers[b].bytes : 0;
  const scheduled = schedule(lowering.units, { roots: rootBuffers, bytesOf: temporaryBytes });
  const cut = options.prefix && cutPrefix(scheduled, {
    ...options.prefix,
    ...lowering,
    fusion: prepared.fusion,
    roots: rootBuffers,
  });
  const order = typeof cut === "object" ? cut.order : scheduled;
  if (typeof cut === "object") { for (const { buffer } of cut.kept) kept.add(buffer); }

  const first = new Map<number, number>(), last = new Map<number, number>();
  order.forEach((unit, at) => {
    for (const b of unit.bindings) {
      if (!first.has(b)) first.set(b, at);
      last.set(b, at);
    }
  });
  for (const b of rootBuffers) last.set(b, order.length);
  const turnBuffers = new Map([...turning].map(([i, leaf]) => [rootBuffers[i], lowering.bufferOf(leaf)]));
  const { launches: texts, shares } = writeInPlace(order, { first, last, bytesOf: temporaryBytes });
  // Buffers that share memory are one value: it lives from the first to the last of them.
  const values = new Map<number, Lifetime>();
  lowering.buffers.forEach(({ bytes }, b) => {
    if (temporaryBytes(b) === 0 || !first.has(b)) return;
    const holder = shares.get(b) ?? b, known = values.get(holder);
    values.set(holder, {
      bytes,
      // What takes turns with a leaf holds the leaf's value in every other step, from its start.
      first: turnBuffers.has(b) ? 0 : Math.min(first.get(b)!, known?.first ?? Infinity),
      last: Math.max(last.get(b)!, known?.last ?? -1),
    });
  });
  const slots = planMemory([...values.values()]);
  const slotOf = new Map([...values.keys()].map((b, i) => [b, slots.slots[i]]));
  const buffers = lowering.buffers.map(({ source, bytes }, b) => ({
    bytes,
    source: source ??
      (kept.has(b)
        ? { kind: "kept" as const }
        : { kind: "slot" as const, slot: slotOf.get(shares.get(b) ?? b) ?? -1 }),
  }));

  const turns = [...turnBuffers].map(([b, leaf]): Turn => ({ slot: slotOf.get(shares.get(b) ?? b)!, leaf }));
  const launches = order.map((unit, at): Launch => ({
    kernel: texts[at].kernel,
    bindings: texts[at].bindings,
    matmulFlops: unit.matmulFlops,
    bytes: [...new Set(texts[at].bindings)].reduce((n, b) => n + buffers[b].bytes, 0),
  }));
  const updating = order.findIndex(({ writes }) => writes.some((b) => buffers[b].source.kind === "leaf"));
  const held = [...kept].reduce((n, b) => n + buffers[b].bytes, 0);
  const memory = held + slots.sizes.reduce((n, s) => n + s, 0);
  const used = new Set(launches.flatMap(({ bindings }) => bindings));
  const constants = buffers.reduce(
    (n, { source, bytes }, b) =>
      used.has(b) && (source.kind === "host" || source.kind === "scalars") ? n + bytes : n,
    0,
  );
  const buffered = { memory, constants };
  const prefixOf = ({ order: _, ...cut }: Cut): Prefix => ({
    ...cut,
    samples: options.prefix!.samples,
    rest: costOf(launches.toSpliced(cut.head, cut.launches), buffered),
  });
  return {
    launches,
    firstUpdate: updating < 0 ? launches.length : updating,
    buffers,
    slots: slots.sizes,
    roots: rootBuffers,
    turns,
    scalars: lowering.scalars,
    cost: costOf(launches, buffered),
    ...(cut !== undefined && { prefix: typeof cut === "object" ? prefixOf(cut) : cut }),
  };
}

function costOf(launches: readonly Launch[], buffered: Pick<Cost, "memory" | "constants">): Cost {
  const total = (f: (l: Launch) => number): number => launches.reduce((n, l) => n + f(l), 0);
  return {
    launches: launches.length,
    flops: total((l) => l.kernel.flops),
    matmulFlops: total((l) => l.matmulFlops),
    bytes: total((l) => l.bytes),
    ...buffered,
  };
}

/** A graph whose launches are to be chosen. */
export interface Prepared {
  /** The roots, in ops that have a kernel. */
  readonly ready: readonly Tensor[];
  /** Nodes that overwrite a leaf, and the leaf. */
  readonly targets: ReadonlyMap<Tensor, Tensor>;
  /** Roots that take turns with a leaf, and the leaf. */
  readonly turning: ReadonlyMap<number, Tensor>;
  readonly fusion: Fusion;
  readonly isHalf: IsHalf;
  /** Products that share a launch, by the first of them. */
  readonly together: ReadonlyMap<Tensor, readonly Tensor[]>;
}

/**
 * Rewrites a graph in ops that have a kernel, and decides which nodes share one and how values are stored.
 *
 * @param roots What to compute
 * @param options Target, which roots overwrite a leaf, and the precision
 * @returns The graph
 */
export function prepare(
  roots: readonly Tensor[],
  { target, updates = new Map(), turns = new Set(), precision = "f32", prefix }: PlanOptions,
): Prepared {
  const copied = precision === "f16" ? copyWeights() : (node: Tensor): Tensor => node;
  // A value without a launch of its own gets one where a kernel reads it, and where it is copied or summed.
  const launched = rebuild(
    absorb(sumProducts(divideAttention(expand(roots), target), target)),
    (node) =>
      isElement(node) || !node.inputs.some((x) => needsLaunch(x, node))
        ? copied(node)
        : copied({ ...node, inputs: node.inputs.map((x) => needsLaunch(x, node) ? copyOf(x) : x) }),
  );
  const mayTurn = precision === "f32" && prefix === undefined;
  const turning = new Map(
    [...updates].filter(([i]) => mayTurn && turns.has(i) && hasOwnBuffer(launched, i)),
  );
  const ready = launched.map((root, i) =>
    !turning.has(i) && updates.has(i) || isSource(root) ? copyOf(root) : root
  );
  const targets = new Map(
    [...updates].flatMap(([i, leaf]) => turning.has(i) ? [] : [[ready[i], leaf] as const]),
  );
  const fusion = fuse(ready, { targets, maxBindings: target.maxBindings });
  const isHalf = precision === "f16" ? halfValues(fusion) : () => false;
  return { ready, targets, turning, fusion, isHalf, together: siblings(fusion, { targets, target, isHalf }) };
}

/** Whether a launch writes a root to a buffer that no other root has. */
function hasOwnBuffer(roots: readonly Tensor[], i: number): boolean {
  const root = roots[i];
  return !isElement(root) && !isSource(root) && root.op.name !== "reshape" && root.dtype === "f32" &&
    roots.indexOf(root) === roots.lastIndexOf(root);
}

/** Whether a kernel can read an input only after a copy: constants have no buffer, and sums need a kernel to ride on. */
function needsLaunch(input: Tensor, reader: Tensor): boolean {
  return input.op === fillOp || input.op === stepScalarOp || (reader.op === sumEachOp && !isElement(input));
}

/** The graph that is planned: in ops that have a kernel, each value once. */
export function expand(roots: readonly Tensor[]): Tensor[] {
  return simplify(expandDefinitions(roots));
}

/** Replaces ops that have no kernel by their definitions. */
function expandDefinitions(roots: readonly Tensor[]): Tensor[] {
  const outputs = new Map<Tensor, readonly Tensor[]>();
  const known = (node: Tensor): boolean =>
    isElement(node) || isSource(node) || node.op.kernel !== undefined || node.op === pickOp ||
    node.op === matmulOp || isReduce(node.op) || node.op === sumEachOp || node.op.name === "reshape";
  return rebuild(roots, (node) => {
    if (node.op === pickOp && outputs.has(node.inputs[0])) {
      return outputs.get(node.inputs[0])![(node.attrs as { index: number }).index];
    }
    if (known(node)) return node;
    if (node.op.definition === undefined) {
      throw new TypeError(`Cannot plan "${node.op.name}" as it has neither a kernel nor a definition`);
    }
    const parts = expandDefinitions(node.op.definition(node.inputs, node.attrs));
    outputs.set(parts[0], parts);
    return parts[0];
  });
}

/** Bytes of a buffer that holds a tensor: whole groups of four elements, so that kernels may load them at once. */
export function bytesOf(
  { shape, dtype = "f32" }: { readonly shape: readonly number[]; readonly dtype?: StorageType },
): number {
  return Math.max(16, Math.ceil(sizeOf(shape) / 4) * 4 * ELEMENT_BYTES[dtype]);
}

/** A value as a launch of its own; integers keep their type. */
function copyOf(x: Tensor): Tensor {
  return x.dtype === "f32"
    ? broadcast(x, x.shape)
    : slice(x, { starts: x.shape.map(() => 0), sizes: x.shape });
}
