/**
 * Aliases: nodes that are another name for a buffer, as reshapes and picked outputs are.
 *
 * @module
 */

import type { Tensor } from "../tensor.ts";
import type { Known } from "./types.ts";
import { isPick, isReshape, isScalarAt } from "./predicates.ts";

/** The node whose buffer a reshape shares; any other node itself. */
export function baseOf(node: Tensor): Tensor {
  return isReshape(node) ? baseOf(node.inputs[0]) : node;
}

/** An output of a node, which has a buffer of its own. */
export interface Output {
  readonly node: Tensor;
  readonly output: number;
}

/** The output whose buffer an alias shares; for any other node an output of its own, the first when absent. */
export function outputOf(node: Tensor, output = 0): Output {
  if (isReshape(node) || isScalarAt(node)) return outputOf(node.inputs[0]);
  if (isPick(node)) return { node: node.inputs[0], output: pickedBy(node) };
  return { node, output };
}

/** The index of the output that a pick takes, or of a number in its list. */
export function pickedBy(node: Tensor): number {
  return (node.attrs as { index: number }).index;
}

/** Nodes that read a node, directly or through reshapes. */
export function readersOf(
  node: Tensor,
  readers: Known<readonly Tensor[]>,
): readonly Tensor[] {
  return readers.get(node)!.flatMap((r) => isReshape(r) ? readersOf(r, readers) : [r]);
}
