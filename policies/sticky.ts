import type { FreezePolicy } from "../core/policy.ts";
import { addReasons, type FrozenReasons } from "./frozen_reasons.ts";
import { wrapPolicy } from "./wrap_policy.ts";

/**
 * Keeps frozen what a policy once froze, with the reason it gave then.
 *
 * @param policy The policy
 * @returns The policy that never thaws
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { below, sticky } from "@firn/train/policies";
 *
 * const policy = sticky(below("gradNorm", 1));
 * const component = { path: "a", layer: 0, parameters: ["a.weight"], kind: "linear", size: 4 } as const;
 * const state = policy.next(policy.init([component], { steps: 3 }), {
 *   steps: [1, 2, 3],
 *   loss: [3, 2, 1],
 *   learningRate: [0.1, 0.1, 0.1],
 *   readings: { gradNorm: { a: [2, 0.5, NaN] } },
 * });
 * assertEquals(policy.frozen(state), ["a"]);
 * ```
 */
export function sticky(policy: FreezePolicy): FreezePolicy {
  return wrapPolicy(policy, {
    name: `sticky(${policy.name})`,
    init: (components, run) => ({
      inner: policy.init(components, run),
      held: {} as FrozenReasons,
      ...(policy.coming && { lookEvery: run.lookEvery ?? 1 }),
    }),
    next(state, { look }) {
      const inner = policy.next(state.inner, look);
      return { ...state, inner, held: addReasons(state.held, policy, inner) };
    },
    frozen: ({ held }) => Object.keys(held),
    // Between looks, what the policy freezes for a step or two stays, too.
    coming: policy.coming && (({ inner, held, lookEvery }) => {
      const own = lookEvery === 1 ? policy.coming!(inner) : null;
      return own && [...new Set([...Object.keys(held), ...own])];
    }),
    reason: ({ held }, path) => held[path],
  });
}
