import type { FreezePolicy, Json, Reason } from "../core/policy.ts";

/** Frozen components, each with the reason of the moment it froze, or null where the policy could not say. */
export type FrozenReasons = { readonly [path: string]: Reason | null };

/**
 * What is reasons, and with it what a policy freezes now.
 *
 * @param reasons What is reasons: it keeps its reasons
 * @param policy The policy
 * @param state Its state
 * @returns All of it, the new ones with the reason that they have now
 */
export function addReasons(reasons: FrozenReasons, policy: FreezePolicy, state: Json): FrozenReasons {
  const found = policy.frozen(state).filter((path) => !Object.hasOwn(reasons, path));
  if (found.length === 0) return reasons;
  return {
    ...reasons,
    ...Object.fromEntries(found.map((path) => [path, policy.reason?.(state, path) ?? null])),
  };
}
