import type { Component, FreezePolicy, Signal } from "../core/policy.ts";

/**
 * What a policy wants measured of a signal.
 *
 * @param policy The policy
 * @param asked The signal, and the components that the policy is shown
 * @returns Paths among these; all of them where the policy does not say, none where it does not declare the signal
 */
export function measuredPaths(
  policy: FreezePolicy,
  { signal, components }: { readonly signal: Signal; readonly components: readonly Component[] },
): readonly string[] {
  const paths = components.map(({ path }) => path);
  if (!policy.signals.includes(signal)) return [];
  const wanted = policy.measured?.(signal, components) ?? paths;
  return paths.filter((path) => wanted.includes(path));
}
