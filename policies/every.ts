import { InputError } from "../core/errors.ts";
import type { FreezePolicy } from "../core/policy.ts";
import { addReasons } from "./frozen_reasons.ts";
import { wrapPolicy } from "./wrap_policy.ts";

/**
 * Lets a policy change the frozen set only at steps divisible by n.
 *
 * The policy still sees all steps, so smoothing and patience inside lose nothing, and the end of training is not
 * delayed. When: changes are frequent; each costs a new plan, and a thawed component its moments. Without {@link
 * sticky}, a frozen component stays frozen for n steps before it is measured again.
 *
 * @param n Steps, a whole number above 0
 * @param policy The policy
 * @returns The policy that decides less often
 * @throws {InputError} When `n` is not a whole number above 0
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { below, every } from "@firn/train/policies";
 *
 * const policy = every(3, below("gradNorm", 1));
 * const component = { path: "a", layer: 0, parameters: ["a.weight"], kind: "linear", size: 4 } as const;
 * const look = (a: number[]) =>
 *   ({ steps: a.map((_, i) => i + 1), loss: a, learningRate: a, readings: { gradNorm: { a } } });
 * const start = policy.init([component], { steps: 5 });
 * assertEquals(policy.frozen(policy.next(start, look([0.5, 0.5]))), []);
 * assertEquals(policy.frozen(policy.next(start, look([0.5, 0.5, 0.5, 2, 2]))), ["a"]);
 * ```
 */
export function every(n: number, policy: FreezePolicy): FreezePolicy {
  if (!(Number.isInteger(n) && n >= 1)) {
    throw new InputError(
      `Cannot ask "${policy.name}" every n steps as "n" must be a whole number above 0: got ${n}`,
    );
  }
  return wrapPolicy(policy, {
    name: `every(${n}, ${policy.name})`,
    init(components, run) {
      const inner = policy.init(components, run);
      const clock = policy.coming && { step: 0, lookEvery: run.lookEvery ?? 1 };
      return { inner, held: addReasons({}, policy, inner), ...clock };
    },
    next(state, { step, look }) {
      const inner = policy.next(state.inner, look);
      const held = step % n === 0 ? addReasons({}, policy, inner) : state.held;
      return { ...state, inner, held, ...(policy.coming && { step }) };
    },
    frozen: ({ held }) => Object.keys(held),
    coming: policy.coming && (({ inner, held, step = NaN, lookEvery = NaN }) => {
      const next = step + lookEvery, asked = Math.floor(next / n) * n;
      if (asked <= step) return Object.keys(held);
      // Between looks the policy is asked for what it does not announce.
      return asked === next ? policy.coming!(inner) : null;
    }),
    reason: ({ held }, path) => held[path],
  });
}
