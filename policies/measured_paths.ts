import type { AnySignal, Component, FreezePolicy } from "../core/policy.ts";

/**
 * Lists the components for which a policy measures a signal.
 *
 * @param policy The policy
 * @param asked The signal, and the components that the policy sees
 * @returns Paths among these; all when the policy has no `measured`, none when it does not declare the signal
 */
export function measuredPaths(
  policy: FreezePolicy,
  { signal, components }: { readonly signal: AnySignal; readonly components: readonly Component[] },
): readonly string[] {
  const paths = components.map(({ path }) => path);
  if (!policy.signals.includes(signal)) return [];
  const wanted = policy.measured?.(signal, components) ?? paths;
  return paths.filter((path) => wanted.includes(path));
}
