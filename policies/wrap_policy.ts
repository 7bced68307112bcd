import type { FreezePolicy, Json } from "../core/policy.ts";
import { definePolicy, type PolicyDefinition } from "./define_policy.ts";

/** The state of a wrapper: that of the inner policy, and its own. */
export type Wrapped = { readonly inner: Json; readonly [key: string]: Json };

/**
 * Makes a policy that changes what another one freezes.
 *
 * Parts that the definition leaves out come from the inner policy: signals and what they measure, the end of training,
 * the best step, probes and reasons. A definition with signals of its own measures them for all components, unless it
 * has `measured`. Probes and reasons of components that the wrapper does not freeze are left out.
 * What is frozen after the next look, `coming`, a wrapper says itself, as it may freeze something else.
 *
 * @typeParam S State, inferred from `init`
 * @param policy The inner policy
 * @param definition As for {@link definePolicy}, with the state of the inner policy under `inner`
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
