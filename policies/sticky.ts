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
    init: (components, run) => ({ inner: policy.init(components, run), held: {} as FrozenReasons }),
    next(state, { look }) {
      const inner = policy.next(state.inner, look);
      return { inner, held: addReasons(state.held, policy, inner) };
    },
    frozen: ({ held }) => Object.keys(held),
    reason: ({ held }, path) => held[path],
  });
}
