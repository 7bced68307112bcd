/**
 * Ranges of ids that the host holds.
 *
 * @module
 */

import { refuse } from "../arguments.ts";
import { hostValues, isHost } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import { reshapeOp } from "./movement.ts";

/**
 * Refuses ids that are out of range. Only values of `tensor` are known here: a leaf is checked by whoever supplies it, or
 * gives NaN.
 *
 * @param op The function that was called
 * @param ids i32
 * @param options Number of classes, and an id that is allowed besides
 * @throws {InputError} When an id is negative, or not below the number of classes
 */
export function checkIds(
  op: string,
  ids: Tensor,
  { classes, ignore }: { readonly classes: number; readonly ignore?: number },
): void {
  if (ids.op === reshapeOp) return checkIds(op, ids.inputs[0], { classes, ignore });
  if (!isHost(ids)) return;
  const bad = hostValues(ids, "ids").find((id) => !(id >= 0 && id < classes) && id !== ignore);
  if (bad === undefined) return;
  const rule = `ids must be from 0 to ${classes - 1}`;
  refuse(op, ignore === undefined ? rule : `${rule}, or ${ignore} to be ignored`, bad);
}
