/**
 * Replaces ops without a kernel by their definitions.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import { rebuild } from "../../graph.ts";
import type { Tensor } from "../../tensor.ts";
import { pickedBy } from "../alias.ts";
import { isPick, isPlannable } from "../predicates.ts";

/**
 * Replaces ops without a kernel by their definitions, and those by theirs.
 *
 * @param roots Roots of the graph
 * @returns Equivalent roots in ops that the planner can lower
 * @throws {InputError} When an op has neither a kernel nor a definition
 */
export function expandDefinitions(roots: readonly Tensor[]): Tensor[] {
  const outputs = new Map<Tensor, readonly Tensor[]>();
  return rebuild(roots, (node) => {
    if (isPick(node) && outputs.has(node.inputs[0])) {
      return outputs.get(node.inputs[0])![pickedBy(node)];
    }
    if (isPlannable(node)) return node;
    if (node.op.definition === undefined) {
      throw new InputError(`Cannot plan "${node.op.name}" as it has neither a kernel nor a definition`);
    }
    const parts = expandDefinitions(node.op.definition(node.inputs, node.attrs));
    outputs.set(parts[0], parts);
    return parts[0];
  });
}
