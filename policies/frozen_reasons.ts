import type { FreezePolicy, Json, Reason } from "../core/policy.ts";

/** Frozen components, each with its reason when it froze; null when the policy gave none. */
export type FrozenReasons = { readonly [path: string]: Reason | null };

/**
 * Adds what a policy freezes now, with the reasons that it gives now.
 *
 * @param reasons What was frozen before: it keeps its reasons
 * @param policy The policy
 * @param state Its state
 * @returns All frozen components with their reasons
 */
export function addReasons(reasons: FrozenReasons, policy: FreezePolicy, state: Json): FrozenReasons {
  const found = policy.frozen(state).filter((path) => !Object.hasOwn(reasons, path));
  if (found.length === 0) return reasons;
  return {
    ...reasons,
    ...Object.fromEntries(found.map((path) => [path, policy.reason?.(state, path) ?? null])),
  };
}
