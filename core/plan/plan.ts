/**
 * From a graph to a flat list of launches with a static memory plan. A function of the graph and the target alone.
 *
 * Read this file first. The passes, in order:
 *
 * 1. `REWRITES`: equivalent graphs; the last one consists of ops that have a kernel. `recompute` is among them only where
 *    options ask for it, `splitRows` where a tensor in memory is larger than one binding.
 * 2. {@link prepare}: `copyWeights` makes products read f16 copies of weights, `materializeRoots` decides where results go,
 *    `fuse` which elementwise nodes share a launch, `halfValues` what is stored as f16, `batchMatmuls` which products share a launch.
 * 3. {@link plan}: `lower` writes kernels on numbered buffers, `schedule` orders them, `cutPrefix` moves the frozen bottom to
 *    the front, `shareLaunches` puts small ones into one launch, `layoutMemory` lets buffers share memory, `costOf` adds up.
 *
 * @module
 */

import type { Tensor } from "../tensor.ts";
import { type Allocated, allocatedBytes, costOf } from "./cost.ts";
import { fuse } from "./fuse/fuse.ts";
import { fitsBindings } from "./fuse/fits_bindings.ts";
import { batchMatmuls } from "./lower/batch_matmuls.ts";
import { textCache } from "./lower/kernel_cache.ts";
import { lower } from "./lower/lower.ts";
import { isKeptCopy } from "./kept_copy.ts";
import { byLevel } from "./memory/by_level.ts";
import { type Layout, layoutMemory, type LayoutOptions, temporaryBytes } from "./memory/layout.ts";
import { schedule } from "./memory/order.ts";
import { shareLaunches } from "./memory/share_launches.ts";
import { halfValues } from "./precision.ts";
import { type Cut, cutPrefix, type Planned } from "./prefix/cut.ts";
import { expandDefinitions } from "./rewrite/expand_definitions.ts";
import { fuseResidual } from "./rewrite/fuse_residual.ts";
import { materializeInputs, materializeRoots } from "./rewrite/materialize.ts";
import { recompute } from "./rewrite/recompute.ts";
import { simplify } from "./rewrite/simplify.ts";
import { sumParts } from "./rewrite/sum_parts.ts";
import { splitRows } from "./rewrite/split_rows.ts";
import { sumProducts } from "./rewrite/sum_products.ts";
import type { BoundText, IsHalf, Launch, Plan, PlanOptions, Prefix, Prepared, Unit } from "./types.ts";
import { largeValues } from "./unbounded.ts";
import { copyWeights } from "./weight_copies.ts";

/** A pass that gives equivalent roots. */
type Rewrite = (roots: readonly Tensor[], options: PlanOptions) => readonly Tensor[];

/** The first passes that rewrite a graph, in order. */
const SIMPLER: readonly Rewrite[] = [
  expandDefinitions, // an op without a kernel becomes simpler ops
  simplify, // equal nodes become one, arithmetic that changes nothing goes
];

/** The other passes that rewrite a graph, in order. */
const REWRITES: readonly Rewrite[] = [
  sumParts, // gradients of attention are computed in parts that fill the device
  sumProducts, // a sum of matrix products becomes one product over more terms
  fuseResidual, // a kernel adds the residual to its own result
  materializeInputs, // a constant that a kernel reads as a buffer gets one
];

/**
 * Rewrites a graph in ops that have a kernel, and decides which nodes share a launch and how values are stored.
 *
 * @param roots What to compute
 * @param options Target, which roots overwrite a leaf, and the precision
 * @returns The graph
 */
export function prepare(roots: readonly Tensor[], options: PlanOptions): Prepared {
  const { roots: simple, ...recomputed } = simplerRoots(roots, options);
  const prepared = prepareSimple(simple, { ...options, places: roots.map((_, i) => i) });
  if (fitsBindings(prepared, options)) return { ...prepared, ...recomputed };
  const split = splitRows(simple, options);
  return { ...prepareSimple(simplify(split.roots), { ...options, ...split }), ...recomputed };
}

/** Runs the first passes; then some blocks of the forward pass are computed again, where options ask for that. */
function simplerRoots(
  roots: readonly Tensor[],
  options: PlanOptions,
): { readonly roots: readonly Tensor[] } & Pick<Prepared, "recomputed"> {
  if (options.recompute === undefined) return { roots: rewritten(roots, SIMPLER, options) };
  const { loss, ...rest } = options.recompute;
  const simple = rewritten([...roots, loss], SIMPLER, options);
  return recompute(simple.slice(0, -1), { ...rest, loss: simple.at(-1)! });
}

function rewritten(
  roots: readonly Tensor[],
  passes: readonly Rewrite[],
  options: PlanOptions,
): readonly Tensor[] {
  return passes.reduce((graph, rewrite) => rewrite(graph, options), roots);
}

function prepareSimple(
  roots: readonly Tensor[],
  options: PlanOptions & Pick<Prepared, "places">,
): Prepared {
  const { target, precision = "f32", wide, places } = options;
  // In f16, products read copies of their weights that are stored so.
  const { roots: copied, updates } = copyWeights(rewritten(roots, REWRITES, options), options);
  const written = materializeRoots(copied, { ...options, updates }), { targets } = written;
  const fusion = fuse(written.roots, { targets, target });
  const half = precision === "f16" ? halfValues(fusion, { wide }) : null;
  const isHalf: IsHalf = half === null ? () => false : (node, output) => {
    const copy = targets.get(node);
    // What overwrites a copy is stored as the copy is.
    return copy !== undefined && isKeptCopy(copy) ? half(copy) : half(node, output);
  };
  const isLarge = precision === "f16" && wide ? largeValues(fusion) : () => false;
  const paired = precision === "f32x3";
  // Each operand of a product by pairs has launches of its own.
  const batched = paired ? new Map() : batchMatmuls(fusion, { targets, target, isHalf });
  return { ...written, places, fusion, isHalf, isLarge, batched, paired };
}

/**
 * Plans the computation of some tensors.
 *
 * @param roots What to compute
 * @param options Target, which roots overwrite a leaf, and the precision
 * @returns The plan
 * @throws {InputError} When two updates need each other's old value
 * @throws {OutOfMemoryError} When a tensor is larger than one binding and cannot be split by rows
 */
export function plan(roots: readonly Tensor[], options: PlanOptions): Plan {
  const prepared = prepare(roots, options);
  const lowered = lower(prepared, options), { units, buffers, scalars, bufferOf } = lowered;
  const results = prepared.roots.map(bufferOf);
  const scheduled = schedule(units, {
    roots: results,
    bytesOf: temporaryBytes(buffers),
    prompt: options.prompt,
  });
  const apart = cutAt(scheduled, { ...options, ...lowered, fusion: prepared.fusion, roots: results });
  const { cut, order, layout } = inMemory({ cut: apart, order: scheduled }, {
    ...options,
    buffers,
    roots: results,
    kept: new Set(typeof apart === "object" ? apart.kept.map(({ buffer }) => buffer) : []),
    swapped: new Map([...prepared.doubleBuffered].map(([i, leaf]) => [results[i], bufferOf(leaf)])),
  });
  const launches = launchesOf(order, layout), allocated = allocatedBytes(launches, layout);
  const firstUpdate = order.findIndex((unit) => updatesLeaf(unit, layout));
  return {
    launches,
    copies: {
      fixed: lowered.copies.fixed.map((unit) => launchOf(unit, { text: unit, layout })),
      changing: lowered.copies.changing.map((unit) => launchOf(unit, { text: unit, layout })),
    },
    firstUpdate: firstUpdate < 0 ? launches.length : firstUpdate,
    buffers: layout.buffers,
    slots: layout.slots,
    roots: prepared.places.map((i) => results[i]),
    doubleBuffers: layout.doubleBuffers,
    scalars,
    cost: costOf(launches, allocated),
    ...(prepared.recomputed !== undefined && { recomputed: prepared.recomputed }),
    ...(cut !== undefined && {
      prefix: typeof cut === "string" ? cut : prefixOf(cut, { launches, allocated, ...options.prefix! }),
    }),
  };
}

/** Moves the frozen bottom of a step to the front, where options ask for that. */
function cutAt(
  scheduled: readonly Unit[],
  { prefix, ...planned }: Planned & Pick<PlanOptions, "prefix">,
): Cut | string | undefined {
  return prefix && cutPrefix(scheduled, { ...planned, ...prefix });
}

/** Units in an order, which may be cut. */
interface Ordered {
  readonly cut: Cut | string | undefined;
  readonly order: readonly Unit[];
}

/** Ways to share launches: how units are ordered before, and how far apart those may be that share one. */
const WAYS: readonly { readonly window: number; readonly ordered: typeof byLevel }[] = [
  { window: 160, ordered: byLevel },
  { window: 48, ordered: byLevel },
  { window: 48, ordered: (units) => units },
  { window: 12, ordered: (units) => units },
];
/** How much more memory shared launches may take: a share of it, more where that is few bytes. */
const MORE_MEMORY = 0.01, MORE_OF_LITTLE = 0.35, FEW_BYTES = 256 * 2 ** 20;

/** Lets units share launches where that needs hardly more memory, and lays out the memory. */
function inMemory(
  { cut, order }: Ordered,
  options: LayoutOptions & Pick<PlanOptions, "target" | "texts" | "recompute" | "prompt">,
): Ordered & { readonly layout: Layout } {
  const { target, texts = textCache(), buffers, recompute, prompt } = options;
  const apart = { cut, order: typeof cut === "object" ? cut.order : order };
  const alone = layoutMemory(apart.order, options);
  const bytesOf = ({ slots }: Layout): number => slots.reduce((n, bytes) => n + bytes, 0);
  const bytes = bytesOf(alone);
  // A plan that computes values again is short of memory.
  const few = (recompute?.blocks ?? 0) > 0 ? 0 : Math.min(MORE_OF_LITTLE * bytes, FEW_BYTES);
  const most = bytes + Math.max(MORE_MEMORY * bytes, few);
  for (const { window, ordered } of WAYS) {
    const share = (units: readonly Unit[]): readonly Unit[] =>
      shareLaunches(ordered(units, { buffers, prompt }), { buffers, target, texts, window });
    const together = typeof cut === "object" ? sharedByPart(cut, share) : { cut, order: share(order) };
    if (together.order.length === apart.order.length) break;
    const layout = layoutMemory(together.order, options);
    if (bytesOf(layout) <= most) return { ...together, layout };
  }
  return { ...apart, layout: alone };
}

/** Shares launches within the head, within the prefix and within the rest. */
function sharedByPart(cut: Cut, share: (units: readonly Unit[]) => readonly Unit[]): Ordered {
  const start = cut.head, end = start + cut.launches;
  const head = share(cut.order.slice(0, start)), prefix = share(cut.order.slice(start, end));
  const order = [...head, ...prefix, ...share(cut.order.slice(end))];
  return { cut: { ...cut, order, head: head.length, launches: prefix.length }, order };
}

function prefixOf(
  { order: _, ...cut }: Cut,
  { launches, allocated, samples }: {
    readonly launches: readonly Launch[];
    readonly allocated: Allocated;
    readonly samples: number;
  },
): Prefix {
  return { ...cut, samples, rest: costOf(launches.toSpliced(cut.head, cut.launches), allocated) };
}

function launchesOf(order: readonly Unit[], layout: Layout): Launch[] {
  return order.map((unit, at) => launchOf(unit, { text: layout.texts[at], layout }));
}

function launchOf(
  { matmulFlops, parts }: Unit,
  { text: { kernel, bindings }, layout: { buffers } }: { readonly text: BoundText; readonly layout: Layout },
): Launch {
  const bytes = [...new Set(bindings)].reduce((n, b) => n + buffers[b].bytes, 0);
  return { kernel, bindings, matmulFlops, bytes, ...(parts && { parts }) };
}

/** Whether a unit writes to the buffer of a leaf. */
function updatesLeaf({ writes }: Unit, { buffers }: Layout): boolean {
  return writes.some((b) => buffers[b].source.kind === "leaf");
}
