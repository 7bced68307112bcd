import { InputError } from "../core/errors.ts";
import type { FreezePolicy, Json, Reason } from "../core/policy.ts";
import { definePolicy } from "./define_policy.ts";
import { measuredPaths } from "./measured_paths.ts";

/**
 * Freezes what at least one of several policies freezes.
 *
 * Training ends when one of them ends it. If several name a best step or a reason, the first counts.
 *
 * @param policies One policy or more
 * @returns Their union
 * @throws {InputError} When there is no policy
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
  return combine("anyOf", policies, {
    merge: (sets) => [...new Set(sets.flat())],
    ends: (stops) => stops.includes(true),
  });
}

/**
 * Freezes what all of several policies freeze.
 *
 * Training ends when all of them end it. If several name a best step or a reason, the first counts.
 *
 * @param policies One policy or more
 * @returns Their intersection
 * @throws {InputError} When there is no policy
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
  return combine("allOf", policies, {
    merge: ([first, ...rest]) => first.filter((path) => rest.every((s) => s.includes(path))),
    ends: (stops) => !stops.includes(false),
  });
}

interface Rules {
  readonly merge: (sets: readonly (readonly string[])[]) => readonly string[];
  readonly ends: (stops: readonly boolean[]) => boolean;
}

function combine(name: string, policies: readonly FreezePolicy[], { merge, ends }: Rules): FreezePolicy {
  if (policies.length === 0) {
    throw new InputError(`Cannot combine policies with "${name}" as it was given none`);
  }
  const has = (part: "measured" | "coming" | "probed" | "stopped" | "best"): boolean =>
    policies.some((policy) => policy[part] !== undefined);
  return definePolicy<readonly Json[]>({
    name: `${name}(${policies.map((policy) => policy.name).join(", ")})`,
    signals: [...new Set(policies.flatMap((policy) => policy.signals))],
    ...(has("measured") && {
      measured: (signal, components) => [
        ...new Set(policies.flatMap((policy) => measuredPaths(policy, { signal, components }))),
      ],
    }),
    init: (components, run) => policies.map((policy) => policy.init(components, run)),
    next: (states, { look }) => policies.map((policy, i) => policy.next(states[i], look)),
    frozen: (states) => merge(policies.map((policy, i) => policy.frozen(states[i]))),
    // The set of a policy that announces none at all is taken to stay.
    ...(has("coming") && {
      coming(states) {
        const sets = policies.map((policy, i) =>
          policy.coming ? policy.coming(states[i]) : policy.frozen(states[i])
        );
        return sets.every((set) => set !== null) ? merge(sets) : null;
      },
    }),
    ...(has("probed") && {
      probed: (states) => [...new Set(policies.flatMap((policy, i) => policy.probed?.(states[i]) ?? []))],
    }),
    ...(has("stopped") && {
      stopped: (states, frozen) =>
        ends(policies.map((policy, i) => policy.stopped?.(states[i], frozen) ?? false)),
    }),
    ...(has("best") && {
      best: (states) => firstOf(policies, (policy, i): number | null => policy.best?.(states[i]) ?? null),
    }),
    reason: (states, path) =>
      firstOf(policies, (policy, i): Reason | null => policy.reason?.(states[i], path) ?? null),
  });
}

/** The first answer that is not null. */
function firstOf<T>(
  policies: readonly FreezePolicy[],
  ask: (policy: FreezePolicy, i: number) => T | null,
): T | null {
  for (const [i, policy] of policies.entries()) {
    const answer = ask(policy, i);
    if (answer !== null) return answer;
  }
  return null;
}
