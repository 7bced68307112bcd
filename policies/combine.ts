import type { FreezePolicy, Json } from "../core/policy.ts";
import { definePolicy } from "./define_policy.ts";

/**
 * Freezes what at least one of some policies freezes.
 *
 * @param policies One policy or more
 * @returns Their union
 * @throws {TypeError} When there is no policy
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { anyOf, below } from "@firn/train/policies";
 *
 * const policy = anyOf(below("gradNorm", 1), below("weightDelta", 1));
 * const component = { path: "a", layer: 0, parameters: ["a.weight"], kind: "linear", size: 4 } as const;
 * const readings = { gradNorm: { a: [2] }, weightDelta: { a: [0.5] } };
 * const start = policy.init([component], { steps: 1 });
 * const state = policy.next(start, { steps: [1], loss: [1], learningRate: [0.1], readings });
 * assertEquals(policy.frozen(state), ["a"]);
 * assertEquals(policy.signals, ["gradNorm", "weightDelta"]);
 * ```
 */
export function anyOf(...policies: readonly FreezePolicy[]): FreezePolicy {
  return combine("anyOf", policies, (sets) => [...new Set(sets.flat())]);
}

/**
 * Freezes what all of some policies freeze.
 *
 * @param policies One policy or more
 * @returns Their intersection
 * @throws {TypeError} When there is no policy
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { allOf, below } from "@firn/train/policies";
 *
 * const policy = allOf(below("gradNorm", 1), below("weightDelta", 1));
 * const component = { path: "a", layer: 0, parameters: ["a.weight"], kind: "linear", size: 4 } as const;
 * const look = (gradNorm: number) => ({
 *   steps: [1],
 *   loss: [1],
 *   learningRate: [0.1],
 *   readings: { gradNorm: { a: [gradNorm] }, weightDelta: { a: [0.5] } },
 * });
 * const start = policy.init([component], { steps: 1 });
 * assertEquals(policy.frozen(policy.next(start, look(2))), []);
 * assertEquals(policy.frozen(policy.next(start, look(0.5))), ["a"]);
 * ```
 */
export function allOf(...policies: readonly FreezePolicy[]): FreezePolicy {
  return combine(
    "allOf",
    policies,
    ([first, ...rest]) => first.filter((path) => rest.every((s) => s.includes(path))),
  );
}

function combine(
  name: string,
  policies: readonly FreezePolicy[],
  merge: (sets: readonly (readonly string[])[]) => readonly string[],
): FreezePolicy {
  if (policies.length === 0) {
    throw new TypeError(`Cannot combine policies with "${name}" as it was given none`);
  }
  return definePolicy({
    name: `${name}(${policies.map((policy) => policy.name).join(", ")})`,
    signals: [...new Set(policies.flatMap((policy) => policy.signals))],
    init: (components, run): readonly Json[] => policies.map((policy) => policy.init(components, run)),
    next: (states, { look }) => policies.map((policy, i) => policy.next(states[i], look)),
    frozen: (states) => merge(policies.map((policy, i) => policy.frozen(states[i]))),
  });
}
