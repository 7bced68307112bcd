/**
 * Whether every tensor in memory fits one binding.
 *
 * @module
 */

import type { Tensor } from "../../tensor.ts";
import { isConstant, isElement, isReshape, isStepScalar } from "../predicates.ts";
import { bytesOf, storedSpec } from "../storage.ts";
import type { PlanOptions, Prepared } from "../types.ts";

/**
 * Tells whether a launch can bind each tensor that is in memory. A value that is computed again where it is read has no size.
 *
 * @param prepared The graph
 * @param options The device
 * @returns True when all fit
 */
export function fitsBindings(
  { fusion: { order, stored }, isHalf }: Pick<Prepared, "fusion" | "isHalf">,
  { target: { maxBindingBytes = Infinity } }: Pick<PlanOptions, "target">,
): boolean {
  const isInMemory = (node: Tensor): boolean =>
    isElement(node) ? stored.has(node) : !isConstant(node) && !isStepScalar(node) && !isReshape(node);
  return order.every((node) =>
    bytesOf(storedSpec(node, isHalf(node))) <= maxBindingBytes || !isInMemory(node)
  );
}
