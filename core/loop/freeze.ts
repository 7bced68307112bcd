/**
 * What a policy decides, and the change of the frozen set that comes of it.
 *
 * @module
 */

import type { Cost } from "../gpu/plan.ts";
import type { Path } from "../tree.ts";
import type { FreezeEvent } from "./state.ts";

const NOTHING: Cost = { launches: 0, flops: 0, matmulFlops: 0, bytes: 0, memory: 0 };

/** What is frozen before and after a step. */
export interface FreezeChange {
  readonly step: number;
  readonly before: readonly Path[];
  readonly after: readonly Path[];
}

/**
 * The event of a change of the frozen set.
 *
 * @param change The sets, and the step between them
 * @param costs What a step costs with each; `after` is null when nothing is left to train
 * @returns The event; null when the sets are the same
 */
export function freezeEvent(
  { step, before, after }: FreezeChange,
  costs: { readonly before: Cost; readonly after: () => Cost | null },
): FreezeEvent | null {
  const frozen = after.filter((path) => !before.includes(path));
  const thawed = before.filter((path) => !after.includes(path));
  if (after.length === before.length && frozen.length === 0) return null;
  return { step, frozen, thawed, before: costs.before, after: costs.after() ?? NOTHING };
}
