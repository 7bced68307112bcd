/**
 * The start of a part of the forward pass that is computed a second time.
 *
 * @module
 */

import { apply, MOVES, type Op, type Tensor } from "../tensor.ts";
import { sliceOp } from "./movement.ts";

/** The record of {@link recomputeFrom}: it has no pullbacks, as the planner adds it after differentiation. */
export const recomputeOp: Op<null> = {
  name: "recompute",
  // It reads nothing of what it waits for.
  half: { ...MOVES, reads: "all" },
  infer: ([{ shape, dtype }]) => [{ shape, dtype }],
  kernel({ inputs: [x], outputs, ...request }) {
    const rows = { ...x, shape: [x.shape.reduce((n, size) => n * size, 1)] };
    const attrs = { starts: [0], sizes: rows.shape };
    const { kernel } = sliceOp.kernel!({ ...request, inputs: [rows], outputs, attrs });
    return { kernel: { ...kernel, name: `recompute ${x.shape.join("x")}` }, reads: [0], waits: [1] };
  },
};

/**
 * A copy of a value that is not made before another one exists. What is computed from it cannot run earlier, and is never
 * taken for what is computed from the value itself.
 *
 * @param x f32 of any shape
 * @param after What must exist before
 * @returns The same values
 */
export function recomputeFrom(x: Tensor, after: Tensor): Tensor {
  return apply(recomputeOp, [x, after], null);
}
