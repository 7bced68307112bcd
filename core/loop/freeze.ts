/**
 * The change of the frozen set that a policy decides.
 *
 * @module
 */

import type { Cost } from "../gpu/plan.ts";
import type { Path } from "../tree.ts";
import type { FreezeEvent } from "./state.ts";

/** What a step costs that is never taken. */
export const NOTHING: Cost = { launches: 0, flops: 0, matmulFlops: 0, bytes: 0, memory: 0 };

/**
 * Compares two frozen sets.
 *
 * @param sets What is frozen before and after a step
 * @returns What froze and thawed; null when the sets are the same
 */
export function freezeChange(
  { step, before, after }: {
    readonly step: number;
    readonly before: readonly Path[];
    readonly after: readonly Path[];
  },
): Pick<FreezeEvent, "step" | "frozen" | "thawed"> | null {
  const frozen = after.filter((path) => !before.includes(path));
  const thawed = before.filter((path) => !after.includes(path));
  return frozen.length + thawed.length === 0 ? null : { step, frozen, thawed };
}
