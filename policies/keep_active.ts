import type { FreezePolicy } from "../core/policy.ts";
import { labelOf, select, type Selector } from "./selector.ts";
import { wrapPolicy } from "./wrap_policy.ts";

/**
 * Keeps some components active whatever a policy decides: the last layer, the head.
 *
 * Unlike with {@link except}, the policy sees all components. Put this outside of wrappers that enlarge the frozen set,
 * such as {@link closePrefix}.
 *
 * @param selector Which components stay active
 * @param policy The policy
 * @returns The policy without them; its `init` throws an InputError when no component matches
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { keepActive, stopAt } from "@firn/train/policies";
 *
 * const layer = (n: number) =>
 *   ({ path: `layers.${n}`, layer: n, parameters: [], kind: "linear", size: 4 }) as const;
 * const policy = keepActive("layers.1", stopAt(5));
 * const start = policy.init([layer(0), layer(1)], { steps: 10 });
 * const state = policy.next(start, { steps: [5], loss: [1], learningRate: [0.1], readings: {} });
 * assertEquals(policy.frozen(state), ["layers.0"]);
 * ```
 */
export function keepActive(selector: Selector, policy: FreezePolicy): FreezePolicy {
  return wrapPolicy(policy, {
    name: `keepActive(${labelOf(selector)}, ${policy.name})`,
    init: (components, run) => ({
      inner: policy.init(components, run),
      kept: select(selector, components),
    }),
    next: (state, { look }) => ({ ...state, inner: policy.next(state.inner, look) }),
    frozen: ({ inner, kept }) => policy.frozen(inner).filter((path) => !kept.includes(path)),
    coming: policy.coming &&
      (({ inner, kept }) => policy.coming!(inner)?.filter((path) => !kept.includes(path)) ?? null),
  });
}
