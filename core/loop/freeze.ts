/**
 * What a policy decides at a look.
 *
 * @module
 */

import type { Cost } from "../gpu/plan.ts";
import type { Component, FreezePolicy, Json, Look, Reason } from "../policy.ts";
import type { Path } from "../tree.ts";
import type { FreezeEvent } from "./state.ts";

/** What a step costs that is never taken. */
export const NOTHING: Cost = { launches: 0, flops: 0, matmulFlops: 0, bytes: 0, memory: 0 };

/** What a policy wants from now on. */
export interface Decision {
  /** Its state. */
  readonly policy: Json;
  readonly frozen: readonly Path[];
  /** What of it is measured. */
  readonly probed: readonly Path[];
  readonly stopped: boolean;
  /** The best step so far; null where the last is. */
  readonly best: number | null;
  /** Why a component is frozen. */
  reason(path: Path): Reason | null;
}

/** What training does without a policy. */
export const NO_DECISION: Decision = {
  policy: null,
  frozen: [],
  probed: [],
  stopped: false,
  best: null,
  reason: () => null,
};

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
  const frozen = [...new Set(policy.frozen(state))].filter((path) => known.has(path));
  return {
    policy: state,
    frozen,
    probed: [...new Set(policy.probed?.(state))].filter((path) => frozen.includes(path)),
    stopped: policy.stopped?.(state) ?? false,
    best: policy.best?.(state) ?? null,
    reason: (path) => policy.reason?.(state, path) ?? null,
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
 * @param before What was frozen until a step
 * @param after The step, and what the policy wants after it
 * @returns What froze and thawed, and why; null when the sets are the same
 */
export function freezeChange(
  before: readonly Path[],
  after: Pick<Decision, "frozen" | "reason"> & { readonly step: number },
): Omit<FreezeEvent, "before" | "after"> | null {
  const frozen = after.frozen.filter((path) => !before.includes(path));
  const thawed = before.filter((path) => !after.frozen.includes(path));
  if (frozen.length + thawed.length === 0) return null;
  const reasons: Record<Path, Reason> = {};
  for (const path of frozen) {
    const why = after.reason(path);
    if (why !== null) reasons[path] = why;
  }
  return { step: after.step, frozen, thawed, reasons };
}
