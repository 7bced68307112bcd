import { InputError } from "../core/errors.ts";
import type { FreezePolicy } from "../core/policy.ts";
import { shareOf } from "./share_of.ts";
import { wrapPolicy } from "./wrap_policy.ts";

/**
 * Adds a grace period: the policy sees only steps above `ceil(alpha * T)`, where T is the number of planned steps.
 *
 * Steps of the grace period do not count for patience either.
 *
 * @param alpha Share of the planned steps in which nothing freezes, 0 to 1
 * @param policy The policy
 * @returns The policy that starts late
 * @throws {InputError} When `alpha` is outside 0 to 1
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { after, below } from "@firn/train/policies";
 *
 * const policy = after(0.5, below("gradNorm", 1));
 * const component = { path: "a", layer: 0, parameters: ["a.weight"], kind: "linear", size: 4 } as const;
 * const look = (step: number) =>
 *   ({ steps: [step], loss: [1], learningRate: [0.1], readings: { gradNorm: { a: [0.5] } } });
 * const start = policy.init([component], { steps: 5 });
 * assertEquals(policy.frozen(policy.next(start, look(3))), []);
 * assertEquals(policy.frozen(policy.next(start, look(4))), ["a"]);
 * ```
 */
export function after(alpha: number, policy: FreezePolicy): FreezePolicy {
  if (!(alpha >= 0 && alpha <= 1)) {
    throw new InputError(
      `Cannot delay "${policy.name}" as "alpha" is a share of all steps, 0 to 1: got ${alpha}`,
    );
  }
  return wrapPolicy(policy, {
    name: `after(${alpha}, ${policy.name})`,
    init: (components, run) => ({
      grace: Math.ceil(shareOf(alpha, run.steps)),
      inner: policy.init(components, run),
      begun: false as boolean,
      ...(policy.coming && { step: 0, lookEvery: run.lookEvery ?? 1 }),
    }),
    next: (state, { step, look }) => {
      const now = policy.coming ? { ...state, step } : state;
      return step > state.grace ? { ...now, inner: policy.next(state.inner, look), begun: true } : now;
    },
    frozen: ({ inner, begun }) => begun ? policy.frozen(inner) : [],
    coming: policy.coming && (({ inner, begun, grace, step = NaN, lookEvery = NaN }) => {
      if (begun || grace === 0) return policy.coming!(inner);
      // In the look in which the grace ends, the policy sees other steps than it can tell.
      return step + lookEvery <= grace ? [] : null;
    }),
  });
}
