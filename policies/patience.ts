import { InputError } from "../core/errors.ts";
import type { FreezePolicy } from "../core/policy.ts";
import { wrapPolicy } from "./wrap_policy.ts";

/**
 * Freezes a component when a policy has wanted it frozen for k steps in a row.
 *
 * A step at which the policy does not want it, or at which it was not measured, starts the count again. A skipped step, such
 * as one whose batch has no labels, does neither.
 *
 * @param k Consecutive steps, a whole number above 0
 * @param policy The policy
 * @returns The policy that waits
 * @throws {InputError} When `k` is not a whole number above 0
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { below, patience } from "@firn/train/policies";
 *
 * const policy = patience(2, below("gradNorm", 1));
 * const component = { path: "a", layer: 0, parameters: ["a.weight"], kind: "linear", size: 4 } as const;
 * const look = (a: number[]) =>
 *   ({ steps: a.map((_, i) => i + 1), loss: a, learningRate: a, readings: { gradNorm: { a } } });
 * const start = policy.init([component], { steps: 3 });
 * assertEquals(policy.frozen(policy.next(start, look([0.5, 2, 0.5]))), []);
 * assertEquals(policy.frozen(policy.next(start, look([2, 0.5, 0.5]))), ["a"]);
 * ```
 */
export function patience(k: number, policy: FreezePolicy): FreezePolicy {
  if (!(Number.isInteger(k) && k >= 1)) {
    throw new InputError(
      `Cannot be patient with "${policy.name}" as "k" must be a whole number above 0: got ${k}`,
    );
  }
  return wrapPolicy(policy, {
    name: `patience(${k}, ${policy.name})`,
    init: (components, run) => ({
      inner: policy.init(components, run),
      counts: {} as { readonly [path: string]: number },
    }),
    next(state, { step, look }) {
      const inner = policy.next(state.inner, look);
      // A skipped step says nothing of any component.
      if (look.skipped?.includes(step)) return { ...state, inner };
      const counts = policy.frozen(inner).map((path) => [path, Math.min(k, (state.counts[path] ?? 0) + 1)]);
      return { inner, counts: Object.fromEntries(counts) };
    },
    frozen: ({ counts }) => Object.keys(counts).filter((path) => counts[path] >= k),
  });
}
