/**
 * What a policy decides at a look.
 *
 * @module
 */

import type { Cost } from "../gpu/plan.ts";
import type { Component, FreezePolicy, Json, Look } from "../policy.ts";
import type { Path } from "../tree.ts";
import type { FreezeEvent } from "./state.ts";

/** What a step costs that is never taken. */
export const NOTHING: Cost = { launches: 0, flops: 0, matmulFlops: 0, bytes: 0, memory: 0 };

/** What a policy wants from now on. */
export interface Decision {
  /** Its state. */
  readonly policy: Json;
  readonly frozen: readonly Path[];
  readonly stopped: boolean;
  /** The best step so far; null where the last is. */
  readonly best: number | null;
}

/**
 * Asks a policy.
 *
 * @param policy The policy
 * @param now Its state, what it sees, and which components there are: it may name others
 * @returns What it decides
 */
export function decide(
  policy: FreezePolicy,
  now: { readonly state: Json; readonly look: Look; readonly components: readonly Component[] },
): Decision {
  const state = policy.next(now.state, now.look), known = new Set(now.components.map(({ path }) => path));
  return {
    policy: state,
    frozen: [...new Set(policy.frozen(state))].filter((path) => known.has(path)),
    stopped: policy.stopped?.(state) ?? false,
    best: policy.best?.(state) ?? null,
  };
}

/**
 * Refuses a best step whose parameters are gone.
 *
 * @param best The step that the policy calls the best
 * @param now The step just taken, and the best one that is kept
 * @throws {RangeError} When it is neither
 */
export function checkBest(
  best: number | null,
  { step, kept, policy }: { readonly step: number; readonly kept: number | null; readonly policy: string },
): void {
  if (best === null || best === step || best === kept) return;
  throw new RangeError(
    `Cannot keep the parameters of step ${best} as "${policy}" must call a step the best at its own look: ` +
      `the look is that of step ${step}; look at every step, or judge by the validation loss`,
  );
}

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
