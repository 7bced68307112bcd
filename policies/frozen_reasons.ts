import type { FreezePolicy, Json, Reason } from "../core/policy.ts";

/** A {@link Reason} that counts as JSON. */
type Why = { readonly [K in keyof Reason]: Reason[K] };

/** Frozen components, each with the reason of the moment it froze, or null where the policy could not say. */
export type Held = { readonly [path: string]: Why | null };

/**
 * What is held, and with it what a policy freezes now.
 *
 * @param held What is held: it keeps its reasons
 * @param policy The policy
 * @param state Its state
 * @returns All of it, the new ones with the reason that they have now
 */
export function holdOn(held: Held, policy: FreezePolicy, state: Json): Held {
  const found = policy.frozen(state).filter((path) => !Object.hasOwn(held, path));
  if (found.length === 0) return held;
  return {
    ...held,
    ...Object.fromEntries(found.map((path) => [path, policy.reason?.(state, path) ?? null])),
  };
}
