import { InputError } from "../core/errors.ts";
import type { FreezePolicy } from "../core/policy.ts";
import { blocksOf } from "./blocks.ts";
import { shareOf } from "./share_of.ts";
import { wrapPolicy } from "./wrap_policy.ts";

/**
 * Bounds the share of a model that a policy freezes.
 *
 * It takes the components the policy froze from the bottom up, by {@link blocksOf} and within a block in the model's
 * order, as long as they fit; low ones save most. So a new one below can thaw another above. Wrappers that enlarge the
 * frozen set, such as {@link sticky} and {@link closePrefix}, belong inside.
 *
 * @param share Of the elements of all components, or of their number, 0 to 1
 * @param policy The policy
 * @param options What the share is of; `elements` when absent
 * @returns The bounded policy
 * @throws {InputError} When `share` is outside 0 to 1
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { atMost, stopAt } from "@firn/train/policies";
 *
 * const layer = (n: number) =>
 *   ({ path: `layers.${n}`, layer: n, parameters: [], kind: "linear", size: 4 }) as const;
 * const policy = atMost(0.5, stopAt(1));
 * const start = policy.init([2, 1, 0].map(layer), { steps: 10 });
 * const state = policy.next(start, { steps: [1], loss: [1], learningRate: [0.1], readings: {} });
 * assertEquals(policy.frozen(state), ["layers.0"]);
 * ```
 */
export function atMost(
  share: number,
  policy: FreezePolicy,
  { of = "elements" }: { readonly of?: "elements" | "components" } = {},
): FreezePolicy {
  if (!(share >= 0 && share <= 1)) {
    throw new InputError(
      `Cannot bound "${policy.name}" as "share" is a share of the ${of}, 0 to 1: got ${share}`,
    );
  }
  return wrapPolicy(policy, {
    name: `atMost(${share} of ${of}, ${policy.name})`,
    init(components, run) {
      const sizes = new Map(components.map(({ path, size }) => [path, of === "elements" ? size : 1]));
      const { below, layers, above } = blocksOf(components);
      const order = [...below, ...layers.flat(), ...above].map((path) => ({ path, size: sizes.get(path)! }));
      return { inner: policy.init(components, run), order };
    },
    next: (state, { look }) => ({ ...state, inner: policy.next(state.inner, look) }),
    frozen: ({ inner, order }) => within(share, { order, wanted: policy.frozen(inner) }),
    coming: policy.coming && (({ inner, order }) => {
      const wanted = policy.coming!(inner);
      return wanted && within(share, { order, wanted });
    }),
  });
}

/** The first components of an order that are wanted, as far as there is room. */
function within(
  share: number,
  { order, wanted }: {
    readonly order: readonly { readonly path: string; readonly size: number }[];
    readonly wanted: readonly string[];
  },
): readonly string[] {
  let room = shareOf(share, order.reduce((sum, { size }) => sum + size, 0));
  return order.flatMap(({ path, size }) => {
    if (size > room || !wanted.includes(path)) return [];
    room -= size;
    return [path];
  });
}
