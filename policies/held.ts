import type { FreezePolicy, Json, Reason } from "../core/policy.ts";

/** A {@link Reason} that counts as JSON. */
type Why = { readonly [K in keyof Reason]: Reason[K] };

/** Frozen components, each with the reason of the moment it froze, or null where the policy could not say. */
export type Held = { readonly [path: string]: Why | null };

/**
 * What a policy freezes now, and why, to be kept.
 *
 * @param policy The policy
 * @param state Its state
 * @returns The reason of each frozen component
 */
export function holdOf(policy: FreezePolicy, state: Json): Held {
  const reasons = policy.frozen(state).map((path) => [path, policy.reason?.(state, path) ?? null]);
  return Object.fromEntries(reasons);
}
