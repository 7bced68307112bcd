import type { FreezePolicy, Json } from "../core/policy.ts";
import { definePolicy, type PolicyDefinition } from "./define_policy.ts";

/** The state of a wrapper: that of the policy it wraps, and its own. */
export type Wrapped = { readonly inner: Json; readonly [key: string]: Json };

/**
 * Makes a policy that changes what another one freezes.
 *
 * What the definition lacks is asked of the other: the signals and of what they are measured, when training ends, which
 * step is best, what is measured while it is frozen, and why a component is frozen. So all wrappers pass these on alike,
 * and none tells them of what it does not freeze itself, by the rules of {@link definePolicy}. A definition with signals of
 * its own measures them for all components, unless it says of which.
 *
 * @typeParam S State, inferred from `init`
 * @param policy The other policy
 * @param definition As for {@link definePolicy}, but with the other's state under `inner`
 * @returns The wrapping policy
 *
 * @example Freeze nothing when the loss is high
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { type FreezePolicy, stopAt, wrapPolicy } from "@firn/train/policies";
 *
 * function whenLossBelow(limit: number, policy: FreezePolicy) {
 *   return wrapPolicy(policy, {
 *     name: `whenLossBelow(${limit}, ${policy.name})`,
 *     init: (components, run) => ({ inner: policy.init(components, run), low: false as boolean }),
 *     next: ({ inner }, { look, loss }) => ({ inner: policy.next(inner, look), low: loss < limit }),
 *     frozen: ({ inner, low }) => low ? policy.frozen(inner) : [],
 *   });
 * }
 *
 * const policy = whenLossBelow(2, stopAt(1));
 * const component = { path: "a", layer: 0, parameters: ["a.weight"], kind: "linear", size: 4 } as const;
 * const look = (loss: number) => ({ steps: [1], loss: [loss], learningRate: [0.1], readings: {} });
 * const start = policy.init([component], { steps: 10 });
 * const low = policy.next(start, look(1.5));
 * assertEquals(policy.frozen(policy.next(start, look(2.5))), []);
 * assertEquals(policy.frozen(low), ["a"]);
 * assertEquals(policy.reason?.(low, "a")?.rule, "stopAt(1)");
 * ```
 */
export function wrapPolicy<S extends Wrapped>(
  policy: FreezePolicy,
  definition: PolicyDefinition<S>,
): FreezePolicy<S> {
  return definePolicy<S>({
    signals: policy.signals,
    measured: definition.signals === undefined && policy.measured
      ? (signal, components) => policy.measured!(signal, components)
      : undefined,
    probed: policy.probed && (({ inner }) => policy.probed!(inner)),
    stopped: policy.stopped && (({ inner }, frozen) => policy.stopped!(inner, frozen)),
    best: policy.best && (({ inner }) => policy.best!(inner)),
    reason: policy.reason && (({ inner }, path) => policy.reason!(inner, path)),
    ...definition,
  });
}
