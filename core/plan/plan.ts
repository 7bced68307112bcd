/**
 * From a graph to a flat list of launches with a static memory plan. A function of the graph and the target alone.
 *
 * Read this file first: {@link REWRITES} makes a graph of ops that have a kernel, {@link prepare} decides which nodes share
 * a launch and how values are stored, and {@link plan} writes the kernels, orders them and gives their buffers memory.
 *
 * @module
 */

import type { Tensor } from "../tensor.ts";
import { allocatedBytes, costOf } from "./cost.ts";
import { fuse } from "./fuse/fuse.ts";
import { batchMatmuls } from "./lower/batch_matmuls.ts";
import { lower } from "./lower/lower.ts";
import { type Layout, layoutMemory, temporaryBytes } from "./memory/layout.ts";
import { schedule } from "./memory/order.ts";
import { copyWeights, halfValues } from "./precision.ts";
import { type Cut, cutPrefix } from "./prefix/cut.ts";
import { expandDefinitions } from "./rewrite/expand_definitions.ts";
import { fuseResidual } from "./rewrite/fuse_residual.ts";
import { materializeInputs, materializeRoots } from "./rewrite/materialize.ts";
import { simplify } from "./rewrite/simplify.ts";
import { splitAttention } from "./rewrite/split_attention.ts";
import { sumProducts } from "./rewrite/sum_products.ts";
import type { Launch, Plan, PlanOptions, Prefix, Prepared, Unit } from "./types.ts";

/** A pass that gives equivalent roots. */
type Rewrite = (roots: readonly Tensor[], options: PlanOptions) => readonly Tensor[];

/** The passes that rewrite a graph, in order. */
const REWRITES: readonly Rewrite[] = [
  expandDefinitions, // an op without a kernel becomes simpler ops
  simplify, // equal nodes become one, arithmetic that changes nothing goes
  splitAttention, // gradients of attention are computed in parts that fill the device
  sumProducts, // a sum of matrix products becomes one product over more terms
  fuseResidual, // a kernel adds the residual to its own result
  materializeInputs, // a constant that a kernel reads as a buffer gets one
  copyWeights, // in f16: products read copies of their weights that are stored so
];

/**
 * Rewrites a graph in ops that have a kernel, and decides which nodes share a launch and how values are stored.
 *
 * @param roots What to compute
 * @param options Target, which roots overwrite a leaf, and the precision
 * @returns The graph
 */
export function prepare(roots: readonly Tensor[], options: PlanOptions): Prepared {
  const { target, precision = "f32" } = options;
  const rewritten = REWRITES.reduce((graph, rewrite) => rewrite(graph, options), roots);
  const written = materializeRoots(rewritten, options), { targets } = written;
  const fusion = fuse(written.roots, { targets, target });
  const isHalf = precision === "f16" ? halfValues(fusion) : () => false;
  const batched = batchMatmuls(fusion, { targets, target, isHalf });
  return { ...written, fusion, isHalf, batched };
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
  const prepared = prepare(roots, options), { fusion, doubleBuffered } = prepared;
  const { units, buffers, scalars, bufferOf } = lower(prepared, options);
  const results = prepared.roots.map(bufferOf);
  const scheduled = schedule(units, { roots: results, bytesOf: temporaryBytes(buffers) });
  const cut = options.prefix === undefined
    ? undefined
    : cutPrefix(scheduled, { ...options.prefix, fusion, buffers, bufferOf, roots: results });
  const { order, kept } = typeof cut === "object" ? cut : { order: scheduled, kept: [] };
  const swapped = new Map([...doubleBuffered].map(([i, leaf]) => [results[i], bufferOf(leaf)]));
  const layout = layoutMemory(order, {
    buffers,
    roots: results,
    kept: new Set(kept.map(({ buffer }) => buffer)),
    swapped,
  });
  const launches = launchesOf(order, layout), allocated = allocatedBytes(launches, layout);
  const updating = launches.findIndex((_, at) => updatesLeaf(order[at], layout));
  const prefixOf = ({ order: _, ...cut }: Cut): Prefix => ({
    ...cut,
    samples: options.prefix!.samples,
    rest: costOf(launches.toSpliced(cut.head, cut.launches), allocated),
  });
  return {
    launches,
    firstUpdate: updating < 0 ? launches.length : updating,
    buffers: layout.buffers,
    slots: layout.slots,
    roots: results,
    doubleBuffers: layout.doubleBuffers,
    scalars,
    cost: costOf(launches, allocated),
    ...(cut !== undefined && { prefix: typeof cut === "object" ? prefixOf(cut) : cut }),
  };
}

function launchesOf(order: readonly Unit[], { texts, buffers }: Layout): Launch[] {
  return order.map(({ matmulFlops }, at): Launch => {
    const { kernel, bindings } = texts[at];
    const bytes = [...new Set(bindings)].reduce((n, b) => n + buffers[b].bytes, 0);
    return { kernel, bindings, matmulFlops, bytes };
  });
}

/** Whether a unit writes to the buffer of a leaf. */
function updatesLeaf({ writes }: Unit, { buffers }: Layout): boolean {
  return writes.some((b) => buffers[b].source.kind === "leaf");
}
