/**
 * From fused groups and ops to launches on numbered buffers.
 *
 * @module
 */

import type { Tensor } from "../../tensor.ts";
import { batchElementwise, type Program } from "../fuse/batch_elementwise.ts";
import {
  isAccumulated,
  isAlias,
  isElement,
  isProduct,
  isReduction,
  isSource,
  isSumEach,
} from "../predicates.ts";
import type { Buffer, PlanOptions, Prepared, StepValue, Unit } from "../types.ts";
import { type LowerContext, lowerContext } from "./context.ts";
import { addPrograms, programOf } from "./elementwise.ts";
import { epilogueHost } from "./epilogue.ts";
import { addKernel } from "./kernels.ts";
import { addProduct, addProducts } from "./matmuls.ts";
import { addAccumulated } from "./pairs.ts";
import { lowerCopies, type LoweredCopies } from "./weight_copies.ts";
import { addReduction, addSums } from "./reductions.ts";

/** The result of {@link lower}. */
export interface Lowered {
  /** Launches, in any order. */
  readonly units: readonly Unit[];
  /** Launches that make copies of weights that outlive the step. */
  readonly copies: LoweredCopies;
  readonly buffers: readonly Buffer[];
  readonly scalars: readonly StepValue[];
  /** Number of the buffer that a node is in. */
  bufferOf(node: Tensor): number;
}

/**
 * Lowers a fused graph.
 *
 * @param prepared The graph
 * @param options What the device is, and kernels that are known
 * @returns Launches on numbered buffers
 */
export function lower(
  prepared: Pick<Prepared, "fusion" | "targets" | "isHalf" | "isLarge" | "batched" | "paired">,
  options: Pick<PlanOptions, "target" | "texts">,
): Lowered {
  const context = lowerContext(prepared, options);
  lowerClusters(context);
  for (const node of prepared.fusion.order) lowerNode(context, node);
  const { units, table: { buffers, scalars, bufferOf } } = context;
  const copies = lowerCopies(context);
  return { units, copies, buffers, scalars, bufferOf: (node) => bufferOf(node) };
}

/** Adds the launches of clusters, except those that become the epilogue of a product. */
function lowerClusters(context: LowerContext): void {
  const { fusion, targets, target: { maxBindings }, epilogues } = context;
  const { clusters, level } = fusion, programs: Program[] = [];
  for (const cluster of clusters) {
    const host = epilogueHost(context, cluster);
    if (host === undefined) programs.push(programOf(context, cluster));
    else epilogues.set(host, cluster);
  }
  const batches = batchElementwise(programs, {
    ...fusion,
    targets,
    levelOf: ({ nodes: [node] }) => level.get(node)!,
    maxBindings,
  });
  for (const batch of batches) addPrograms(context, batch);
}

/** Adds the launch of a node that needs one and is in no cluster. */
function lowerNode(context: LowerContext, node: Tensor): void {
  if (isElement(node) || isSource(node) || isAlias(node)) return;
  if (isProduct(node)) lowerProduct(context, node);
  else if (isReduction(node)) addReduction(context, node);
  else if (isSumEach(node)) addSums(context, node);
  else if (context.paired && isAccumulated(node)) addAccumulated(context, node);
  else addKernel(context, node);
}

/** Adds the launch of a product; products that share one are added with the first of them. */
function lowerProduct(context: LowerContext, node: Tensor): void {
  const group = context.batched.get(node);
  if (group !== undefined) addProducts(context, group);
  else if (!context.sharing.has(node)) addProduct(context, node);
}
