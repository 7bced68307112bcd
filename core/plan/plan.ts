/**
 * From a graph to a flat list of launches with a static memory plan. A function of the graph and the target alone.
 *
 * @module
 */

import { rebuild } from "../graph.ts";
import { broadcast } from "../ops/broadcast.ts";
import { slice } from "../ops/movement.ts";
import type { Tensor } from "../tensor.ts";
import { fuse } from "./fuse/fuse.ts";
import { batchMatmuls } from "./lower/batch_matmuls.ts";
import { createLowering } from "./lower/lower.ts";
import { writeInPlace } from "./memory/in_place.ts";
import { schedule } from "./memory/order.ts";
import { type Lifetime, planMemory } from "./memory/slots.ts";
import { copyWeights, halfValues } from "./precision.ts";
import { isConstant, isElement, isReshape, isSource, isStepScalar, isSumEach } from "./predicates.ts";
import { type Cut, cutPrefix } from "./prefix/cut.ts";
import { expand } from "./rewrite/expand_definitions.ts";
import { fuseResidual } from "./rewrite/fuse_residual.ts";
import { splitAttention } from "./rewrite/split_attention.ts";
import { sumProducts } from "./rewrite/sum_products.ts";
import type { Cost, DoubleBuffer, Launch, Plan, PlanOptions, Prefix, Prepared } from "./types.ts";

/**
 * Plans the computation of some tensors.
 *
 * @param roots What to compute
 * @param options Target, which roots overwrite a leaf, and the precision
 * @returns The plan
 * @throws {TypeError} When two updates need each other's old value
 */
export function plan(roots: readonly Tensor[], options: PlanOptions): Plan {
  const { ready, doubleBuffered, ...prepared } = prepare(roots, options);
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
  const turnBuffers = new Map(
    [...doubleBuffered].map(([i, leaf]) => [rootBuffers[i], lowering.bufferOf(leaf)]),
  );
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

  const doubleBuffers = [...turnBuffers].map(([b, leaf]): DoubleBuffer => ({
    slot: slotOf.get(shares.get(b) ?? b)!,
    leaf,
  }));
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
    doubleBuffers,
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

/**
 * Rewrites a graph in ops that have a kernel, and decides which nodes share one and how values are stored.
 *
 * @param roots What to compute
 * @param options Target, which roots overwrite a leaf, and the precision
 * @returns The graph
 */
export function prepare(
  roots: readonly Tensor[],
  { target, updates = new Map(), doubleBuffered: wanted = new Set(), precision = "f32", prefix }: PlanOptions,
): Prepared {
  const copied = precision === "f16" ? copyWeights() : (node: Tensor): Tensor => node;
  // A value without a launch of its own gets one where a kernel reads it, and where it is copied or summed.
  const launched = rebuild(
    fuseResidual(sumProducts(splitAttention(expand(roots), target), target)),
    (node) =>
      isElement(node) || !node.inputs.some((x) => needsLaunch(x, node))
        ? copied(node)
        : copied({ ...node, inputs: node.inputs.map((x) => needsLaunch(x, node) ? copyOf(x) : x) }),
  );
  const mayTurn = precision === "f32" && prefix === undefined;
  const doubleBuffered = new Map(
    [...updates].filter(([i]) => mayTurn && wanted.has(i) && hasOwnBuffer(launched, i)),
  );
  const ready = launched.map((root, i) =>
    !doubleBuffered.has(i) && updates.has(i) || isSource(root) ? copyOf(root) : root
  );
  const targets = new Map(
    [...updates].flatMap(([i, leaf]) => doubleBuffered.has(i) ? [] : [[ready[i], leaf] as const]),
  );
  const fusion = fuse(ready, { targets, maxBindings: target.maxBindings });
  const isHalf = precision === "f16" ? halfValues(fusion) : () => false;
  return {
    ready,
    targets,
    doubleBuffered,
    fusion,
    isHalf,
    together: batchMatmuls(fusion, { targets, target, isHalf }),
  };
}

/** Whether a launch writes a root to a buffer that no other root has. */
function hasOwnBuffer(roots: readonly Tensor[], i: number): boolean {
  const root = roots[i];
  return !isElement(root) && !isSource(root) && !isReshape(root) && root.dtype === "f32" &&
    roots.indexOf(root) === roots.lastIndexOf(root);
}

/** Whether a kernel can read an input only after a copy: constants have no buffer, and sums need a kernel to ride on. */
function needsLaunch(input: Tensor, reader: Tensor): boolean {
  return isConstant(input) || isStepScalar(input) || (isSumEach(reader) && !isElement(input));
}

/** A value as a launch of its own; integers keep their type. */
function copyOf(x: Tensor): Tensor {
  return x.dtype === "f32"
    ? broadcast(x, x.shape)
    : slice(x, { starts: x.shape.map(() => 0), sizes: x.shape });
}
