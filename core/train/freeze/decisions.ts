/**
 * Asks a policy at a look, and checks its answer.
 *
 * @module
 */

import { DataError, FirnError, InputError } from "../../errors.ts";
import type { Cost } from "../../plan/types.ts";
import type { Component, FreezePolicy, Json, Look, Reason, RunInfo } from "../../policy.ts";
import type { Path } from "../../tree.ts";
import type { FreezeEvent } from "../types.ts";
import { checkPaths } from "./check_paths.ts";

/** The cost of no step. */
export const NO_COST: Cost = { launches: 0, flops: 0, matmulFlops: 0, bytes: 0, memory: 0, constants: 0 };

/** What a policy decides at a look. */
export interface Decision {
  /** Its state. */
  readonly policy: Json;
  readonly frozen: readonly Path[];
  /** Frozen components that are measured. */
  readonly probed: readonly Path[];
  readonly stopped: boolean;
  /** The best step so far; null for the last one. */
  readonly best: number | null;
  /** Why a component is frozen. */
  reason(path: Path): Reason | null;
}

/** The decision of no policy. */
export const NO_DECISION: Decision = {
  policy: null,
  frozen: [],
  probed: [],
  stopped: false,
  best: null,
  reason: () => null,
};

/**
 * Makes the first state of a policy.
 *
 * @returns Its state before the first step; null without a policy
 * @throws {InputError} When the state is not JSON
 */
export function initPolicy(
  policy: FreezePolicy | undefined,
  { components, run }: { readonly components: readonly Component[]; readonly run: RunInfo },
): Json {
  const state = policy?.init(components, run) ?? null;
  checkJson(state, policy?.name ?? "");
  return state;
}

/**
 * Asks a policy.
 *
 * @param policy The policy
 * @param now Its state, the look, and all components
 * @returns The decision. Components that are probed and not frozen are left out
 * @throws {InputError} When its state is not JSON, or `frozen` returns no list of components
 */
export function decide(policy: FreezePolicy, now: Now): Decision {
  if (!now.resumed) return decision(policy, now);
  const { reason, ...decided } = readSaved(policy, () => decision(policy, now));
  return { ...decided, reason: (path) => readSaved(policy, () => reason(path)) };
}

/** A look, and the state before it. */
interface Now {
  readonly state: Json;
  readonly look: Look;
  readonly components: readonly Component[];
  /** Whether the state goes back to a saved one. */
  readonly resumed: boolean;
}

/**
 * Lets a policy use a saved state, which may hold anything.
 *
 * @param policy The policy
 * @param use What it does with the state
 * @returns What that returns
 * @throws {DataError} When the policy fails
 */
export function readSaved<T>(policy: FreezePolicy, use: () => T): T {
  try {
    return use();
  } catch (cause) {
    if (cause instanceof FirnError) throw cause;
    throw new DataError(
      `Cannot resume as "policy" of the saved state must be a state of "${policy.name}": ${
        (cause as Error).message
      }; use another checkpoint`,
      { cause },
    );
  }
}

function decision(policy: FreezePolicy, now: Now): Decision {
  const state = policy.next(now.state, now.look);
  checkJson(state, policy.name);
  const named = policy.frozen(state);
  if (!Array.isArray(named)) {
    throw new InputError(
      `Cannot freeze by "${policy.name}" as "frozen" must return a list of paths: got ${named}`,
    );
  }
  const frozen = [...new Set(named)], probed = [...new Set(policy.probed?.(state))];
  checkPaths(frozen, { policy, from: "frozen", components: now.components });
  checkPaths(probed, { policy, from: "probed", components: now.components });
  return {
    policy: state,
    frozen,
    probed: probed.filter((path) => frozen.includes(path)),
    stopped: policy.stopped?.(state, frozen) ?? false,
    best: policy.best?.(state) ?? null,
    reason: (path) => policy.reason?.(state, path) ?? null,
  };
}

/**
 * Refuses a state that a checkpoint would change: JSON turns NaN into null, which is below any threshold.
 *
 * @param state The state of a policy
 * @param name The policy
 * @throws {InputError} When it is not JSON
 */
function checkJson(state: unknown, name: string): void {
  const stray = strayIn(state);
  if (stray === null) return;
  const { keys, value } = stray;
  const seen = typeof value === "object" ? value?.constructor?.name : String(value);
  throw new InputError(
    `Cannot keep the state of "${name}" as it must be JSON, null where there is no number: ` +
      `"${keys.join(".")}" is ${seen}`,
  );
}

/** The first part of a value that is not JSON, and the keys that lead to it; null when all of it is JSON. */
function strayIn(value: unknown): { readonly keys: readonly string[]; readonly value: unknown } | null {
  if (value === null || typeof value === "boolean" || typeof value === "string") return null;
  if (typeof value === "number" && Number.isFinite(value)) return null;
  const plain = Array.isArray(value) ||
    typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype;
  if (!plain) return { keys: [], value };
  for (const [key, part] of Object.entries(value as object)) {
    const stray = strayIn(part);
    if (stray !== null) return { ...stray, keys: [key, ...stray.keys] };
  }
  return null;
}

/**
 * Refuses a best step whose parameters were not kept.
 *
 * @param best The step that the policy calls the best
 * @param now The step just taken, and the best step so far, whose parameters are kept
 * @throws {InputError} When it is neither of them
 */
export function checkBest(
  best: number | null,
  { step, kept, policy }: { readonly step: number; readonly kept: number | null; readonly policy: string },
): void {
  if (best === null || best === step || best === kept) return;
  throw new InputError(
    `Cannot keep the parameters of step ${best} as "${policy}" must call a step the best at its own look: ` +
      `the look is that of step ${step}; look at every step, or judge by the validation loss`,
  );
}

/**
 * Compares two frozen sets.
 *
 * @param before The set until a step
 * @param after The step, and the set after it
 * @returns What froze and thawed, and why; null when the sets are equal
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
