/**
 * Blocks of a forward pass: parts between two values through which all flows, such as the residual streams around the
 * attention and the feed-forward network of each layer.
 *
 * @module
 */

import { topological } from "../../graph.ts";
import { bytesOf } from "../storage.ts";
import type { Tensor } from "../../tensor.ts";
import { outputOf } from "../alias.ts";
import { isAlias, isLeaf, pathOf } from "../predicates.ts";
import type { RecomputeOptions } from "../types.ts";

/** A block that the backward pass can compute again. */
export interface Block {
  /** The value that it begins with. */
  readonly from: Tensor;
  /** Its nodes in order, without that value and without the one that it ends with. */
  readonly nodes: ReadonlySet<Tensor>;
  /** Bytes of its values that the backward pass reads. */
  readonly bytes: number;
  /** Operations that it takes to compute those again. */
  readonly flops: number;
}

/**
 * What else is open where a block ends may have this share of its bytes: losses of routers, statistics. A block that ends in
 * less than this share of what it begins with ends the forward pass.
 */
const SHARE = 1 / 8;

/** The value that a tensor is a name of. */
const valueOf = (node: Tensor): Tensor => outputOf(node).node;

/**
 * Finds the blocks of a forward pass, in order, that gradients flow through. What follows the last product is none: the
 * backward pass begins there.
 *
 * @param roots Roots of a simplified graph
 * @param options The loss, and which leaves are entries of the batch
 * @returns The blocks
 */
export function forwardBlocks(
  roots: readonly Tensor[],
  { loss, isBatch }: Pick<RecomputeOptions, "loss" | "isBatch">,
): readonly Block[] {
  const forward = topological([loss]), isForward = new Set(forward);
  const kept = new Set(
    topological(roots).flatMap((node) =>
      isForward.has(node) ? [] : node.inputs.filter((x) => isForward.has(x))
    )
      .map(valueOf),
  );
  const nodes = activations(forward, isBatch), lastProduct = nodes.findLastIndex(isCostly);
  const blocks: Block[] = [];
  let start: number | null = null;
  for (const at of cutsOf(nodes)) {
    if (at >= lastProduct || (start !== null && bytesOf(nodes[at]) < SHARE * bytesOf(nodes[start]))) break;
    if (start === null) {
      start = at;
      continue;
    }
    const from = nodes[start], block = blockOf(from, nodes.slice(start + 1, at), kept);
    // Where little is between two values, keeping the second saves as little.
    if (block.bytes > 0 && block.bytes < bytesOf(from)) continue;
    if (block.bytes > 0) blocks.push(block);
    start = at;
  }
  return blocks;
}

function isCostly({ op }: Tensor): boolean {
  return op.matmulFlops !== undefined;
}

/** Nodes that depend both on the batch and on parameters. */
function activations(forward: readonly Tensor[], isBatch: RecomputeOptions["isBatch"]): readonly Tensor[] {
  const onBatch = new Set<Tensor>(), onParams = new Set<Tensor>();
  for (const node of forward) {
    if (isLeaf(node)) (isBatch(pathOf(node)) ? onBatch : onParams).add(node);
    if (node.inputs.some((input) => onBatch.has(input))) onBatch.add(node);
    if (node.inputs.some((input) => onParams.has(input))) onParams.add(node);
  }
  return forward.filter((node) => onBatch.has(node) && onParams.has(node));
}

/** Places of the values that all later nodes depend on, but for few bytes. */
function cutsOf(nodes: readonly Tensor[]): readonly number[] {
  const last = new Map<Tensor, number>();
  nodes.forEach((node, at) => {
    for (const input of node.inputs) last.set(valueOf(input), at);
  });
  const ends = Map.groupBy(last.keys(), (value) => last.get(value)!);
  const cuts: number[] = [], open = new Set<Tensor>();
  let bytes = 0;
  nodes.forEach((node, at) => {
    for (const value of ends.get(at) ?? []) if (open.delete(value)) bytes -= bytesOf(value);
    if (isAlias(node) || !last.has(node)) return;
    if (bytes <= SHARE * bytesOf(node)) cuts.push(at);
    open.add(node);
    bytes += bytesOf(node);
  });
  return cuts;
}

function blockOf(from: Tensor, inner: readonly Tensor[], kept: ReadonlySet<Tensor>): Block {
  const needed = new Set<Tensor>();
  let bytes = 0, flops = 0;
  for (const node of inner.toReversed()) {
    if (isAlias(node)) continue;
    if (kept.has(node)) {
      needed.add(node);
      bytes += bytesOf(node);
    }
    if (!needed.has(node)) continue;
    flops += bytesOf(node) / 4 + matmulFlopsOf(node);
    for (const input of node.inputs) needed.add(valueOf(input));
  }
  return { from, nodes: new Set(inner), bytes, flops };
}

function matmulFlopsOf({ op, inputs, attrs }: Tensor): number {
  const outputs = op.infer(inputs, attrs);
  return op.matmulFlops?.(inputs, outputs, attrs, outputs.map(() => true)) ?? 0;
}
