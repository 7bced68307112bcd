/**
 * Nodes that show the buffer of another node: reshapes and later outputs.
 *
 * @module
 */

import type { Tensor } from "../tensor.ts";
import { isPick, isReshape } from "./predicates.ts";

/** The node that a reshape shows; any other node itself. */
export function baseOf(node: Tensor): Tensor {
  return isReshape(node) ? baseOf(node.inputs[0]) : node;
}

/** An output of a node that has a buffer. */
export interface Output {
  readonly node: Tensor;
  readonly output: number;
}

/** The output that an alias shows; for any other node the asked one of its own. */
export function outputOf(node: Tensor, output = 0): Output {
  if (isReshape(node)) return outputOf(node.inputs[0]);
  if (isPick(node)) return { node: node.inputs[0], output: pickedBy(node) };
  return { node, output };
}

/** Which output of its input a pick is. */
export function pickedBy(node: Tensor): number {
  return (node.attrs as { index: number }).index;
}

/** Nodes that read a node, or a reshape of it. */
export function readersOf(
  node: Tensor,
  readers: ReadonlyMap<Tensor, readonly Tensor[]>,
): readonly Tensor[] {
  return readers.get(node)!.flatMap((r) => isReshape(r) ? readersOf(r, readers) : [r]);
}
