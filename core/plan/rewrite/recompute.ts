/**
 * Lets the backward pass compute values of the forward pass again, so that they are not kept until then.
 *
 * Source: Chen, Xu, Zhang and Guestrin 2016, "Training Deep Nets with Sublinear Memory Cost".
 *
 * @module
 */

import { topological } from "../../graph.ts";
import { recomputeFrom } from "../../ops/recompute.ts";
import type { Tensor } from "../../tensor.ts";
import { outputOf } from "../alias.ts";
import { isSource } from "../predicates.ts";
import { sizeOf } from "../../spec.ts";
import type { Prepared, RecomputeOptions } from "../types.ts";
import { type Block, forwardBlocks } from "./forward_blocks.ts";

/**
 * Adds a copy of the nodes of some blocks, which the backward pass reads. Each copy begins with what its block begins with, and
 * waits for the gradient of what it ends with. Copies compute the same bits: draws depend on their numbers alone.
 *
 * @param roots Roots of a simplified graph
 * @param options The loss, which leaves are entries of the batch, and how many blocks to compute again
 * @returns Equivalent roots, and what is computed again
 */
export function recompute(
  roots: readonly Tensor[],
  options: RecomputeOptions,
): { readonly roots: readonly Tensor[] } & Required<Pick<Prepared, "recomputed">> {
  const all = forwardBlocks(roots, options);
  const chosen = all.toSorted((a, b) => b.bytes / b.flops - a.bytes / a.flops).slice(0, options.blocks);
  const recomputed = { blocks: chosen.length, of: all.length };
  if (chosen.length === 0) return { roots, recomputed };
  const order = topological(roots), forward = new Set(topological([options.loss]));
  const blockOf = membersOf(chosen, { order, forward });
  const isGradient = (node: Tensor): boolean => !forward.has(node) && !blockOf.has(node) && !isSource(node);
  const done = new Map<Tensor, Tensor>();
  const copies = new Map<Block, ReadonlyMap<Tensor, Tensor>>();
  const nodesOf = Map.groupBy(blockOf.keys(), (node) => blockOf.get(node)!);
  const now = (node: Tensor): Tensor => done.get(node) ?? node;
  for (const node of order) {
    if (forward.has(node) || blockOf.has(node)) continue;
    const inputs = node.inputs.map((input) => {
      const block = blockOf.get(input);
      // A view of what the block begins with is kept with that.
      if (block === undefined || outputOf(input).node === block.from) return now(input);
      if (!copies.has(block)) {
        const gradient = gradientAbove(node, { block, isGradient });
        copies.set(
          block,
          gradient === null
            ? new Map()
            : copyOf(block.from, { nodes: nodesOf.get(block)!, gradient: now(gradient) }),
        );
      }
      return copies.get(block)!.get(input) ?? input;
    });
    if (inputs.some((input, i) => input !== node.inputs[i])) done.set(node, { ...node, inputs });
  }
  return { roots: roots.map(now), recomputed };
}

/**
 * The block of each node that is in one, and of each node outside of the forward pass that reads nothing else: gradients read
 * other shapes of values too.
 */
function membersOf(
  blocks: readonly Block[],
  { order, forward }: { readonly order: readonly Tensor[]; readonly forward: ReadonlySet<Tensor> },
): ReadonlyMap<Tensor, Block> {
  const blockOf = new Map(blocks.flatMap((block) => [...block.nodes].map((node) => [node, block] as const)));
  for (const node of order) {
    if (forward.has(node)) continue;
    const [block, ...more] = new Set(node.inputs.flatMap((x) => isSource(x) ? [] : [blockOf.get(x)]));
    if (block !== undefined && more.length === 0) blockOf.set(node, block);
  }
  return blockOf;
}

/** Copies nodes of a block in order; those that nobody reads vanish. */
function copyOf(
  from: Tensor,
  { nodes, gradient }: { readonly nodes: readonly Tensor[]; readonly gradient: Tensor },
): ReadonlyMap<Tensor, Tensor> {
  const copies = new Map([[from, recomputeFrom(from, gradient)]]);
  for (const node of nodes) {
    const inputs = node.inputs.map((input) => copies.get(input) ?? input);
    if (inputs.some((input, i) => input !== node.inputs[i])) copies.set(node, { ...node, inputs });
  }
  return copies;
}

/**
 * The gradient of what a block ends with, as the first node of the backward pass that reads the block depends on it: the nearest
 * one of the size of what the block begins with that a launch computes; the nearest one of any size where there is none.
 */
function gradientAbove(
  reader: Tensor,
  { block: { from }, isGradient }: {
    readonly block: Block;
    readonly isGradient: (node: Tensor) => boolean;
  },
): Tensor | null {
  let nearest: Tensor | null = null;
  for (let node: Tensor | undefined = reader.inputs.find(isGradient); node !== undefined;) {
    nearest ??= node;
    if (sizeOf(node.shape) === sizeOf(from.shape)) return node;
    node = node.inputs.find(isGradient);
  }
  return nearest;
}
