import type { FreezePolicy } from "../core/policy.ts";
import { wrapPolicy } from "./wrap_policy.ts";

/**
 * Ends training once a policy has frozen every component that it was shown.
 *
 * Training ends by itself only when nothing is left to train. Inside {@link only}, this ends it although other components
 * are still active. A wrapper outside that keeps one of its components active, such as `patience`, `keepActive` or `thaw`,
 * keeps training going.
 *
 * @param policy The policy
 * @returns The policy that ends training
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { only, stopAt, untilFrozen } from "@firn/train/policies";
 *
 * const component = { path: "a", layer: 0, parameters: ["a.weight"], kind: "linear", size: 4 } as const;
 * const policy = only("a", untilFrozen(stopAt(2)));
 * const start = policy.init([component, { ...component, path: "b" }], { steps: 10 });
 * const look = (step: number) => ({ steps: [step], loss: [1], learningRate: [0.1], readings: {} });
 * const ends = (state: typeof start) => policy.stopped?.(state, policy.frozen(state));
 * assertEquals(ends(policy.next(start, look(1))), false);
 * assertEquals(ends(policy.next(start, look(2))), true);
 * ```
 */
export function untilFrozen(policy: FreezePolicy): FreezePolicy {
  return wrapPolicy(policy, {
    name: `untilFrozen(${policy.name})`,
    init: (components, run) => ({
      inner: policy.init(components, run),
      paths: components.map(({ path }) => path),
    }),
    next: (state, { look }) => ({ ...state, inner: policy.next(state.inner, look) }),
    frozen: ({ inner }) => policy.frozen(inner),
    coming: policy.coming && (({ inner }) => policy.coming!(inner)),
    stopped({ inner, paths }, frozen) {
      const own = new Set(policy.frozen(inner)), all = new Set(frozen);
      return paths.every((path) => own.has(path) && all.has(path)) ||
        (policy.stopped?.(inner, frozen) ?? false);
    },
  });
}
