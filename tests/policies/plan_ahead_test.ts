import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../core/errors.ts";
import {
  allOf,
  anyOf,
  definePolicy,
  type FreezePolicy,
  gradES,
  planAhead,
  record,
  stopAt,
} from "../../policies/mod.ts";
import { COMPONENTS, ends, lookOf, PATHS } from "./looks.ts";

/** Freezes what a list says after each step. */
function listed(sets: readonly (readonly string[])[]) {
  return definePolicy({
    name: "listed",
    init: () => 0 as number,
    next: (_, { step }) => step,
    frozen: (step) => sets[Math.min(step, sets.length) - 1] ?? [],
    reason: (step) => ({ signal: "step", value: step, threshold: null, rule: "listed" }),
  });
}

Deno.test("planAhead freezes one look later what its policy freezes, and announces it at the look before", () => {
  const [a, b, c] = PATHS, policy = planAhead(listed([[], [a], [a], [a, b], [b], [b], [c]]));
  let state = policy.init(COMPONENTS, { steps: 20, lookEvery: 2 });
  const seen = [1, 2, 3, 4].map((i) => {
    state = policy.next(state, lookOf({}, [2 * i - 1, 2 * i]));
    return [policy.frozen(state), policy.coming!(state)];
  });
  // Of the policy after steps 2, 4, 6 and 8.
  assertEquals(seen, [[[], [a]], [[a], [a, b]], [[a, b], [b]], [[b], [c]]]);
  for (const [i, [, coming]] of seen.slice(0, -1).entries()) assertEquals(seen[i + 1][0], coming);
  assertEquals(policy.reason!(state, b)?.value, 4, "the reason is that of the step at which it froze");
});

Deno.test("planAhead announces what comes at the next look where the set follows by several looks", () => {
  const [a, b] = PATHS, policy = planAhead(listed([[a], [a, b]]), { after: 5 });
  let state = policy.init(COMPONENTS, { steps: 20, lookEvery: 2 });
  const seen = [1, 2, 3, 4].map((i) => {
    state = policy.next(state, lookOf({}, [2 * i - 1, 2 * i]));
    return [policy.frozen(state).length, policy.coming!(state)!.length];
  });
  // The sets of steps 1 and 2 count from steps 6 and 7 on.
  assertEquals(seen, [[0, 0], [0, 1], [1, 2], [2, 2]]);
});

Deno.test("what planAhead announces is announced beside policies that announce nothing, such as one that only records", () => {
  const [a, b] = PATHS, ahead = planAhead(listed([[a]]));
  const comingOf = (policy: FreezePolicy) => {
    const state = policy.next(policy.init(COMPONENTS, { steps: 20, lookEvery: 1 }), lookOf({}, [1]));
    return [policy.frozen(state), policy.coming?.(state)];
  };
  assertEquals(comingOf(anyOf(ahead, record("gradNorm"))), [[], [a]]);
  assertEquals(comingOf(anyOf(listed([[b]]), ahead)), [[b], [b, a]]);
  assertEquals(comingOf(allOf(listed([[a, b]]), ahead)), [[], [a]]);
  assertEquals(comingOf(anyOf(listed([[a]]))), [[a], undefined]);
});

Deno.test("planAhead follows by other numbers of steps, too, and by one where a run does not tell its looks", () => {
  const [a] = PATHS,
    froze = (after: number | undefined, lookEvery?: number) => {
      const policy = planAhead(listed([[], [a]]), { after });
      let state = policy.init(COMPONENTS, { steps: 20, lookEvery });
      return Array.from({ length: 12 }, (_, i) => {
        state = policy.next(state, lookOf({}, [i + 1]));
        return policy.frozen(state).length;
      }).indexOf(1) + 1;
    };
  assertEquals([froze(3), froze(3, 10), froze(undefined, 5), froze(undefined)], [5, 5, 7, 3]);
});

Deno.test("planAhead ends training when its policy would", () => {
  const policy = planAhead(gradES({ tau: 0.5, alpha: 0 }), { after: 4 });
  let state = policy.init(COMPONENTS, { steps: 10 });
  const stops = [0.9, 0.6, 0.4, 0.4].map((value, i) => {
    const gradNorm = Object.fromEntries(PATHS.map((path) => [path, [value]]));
    return ends(policy, state = policy.next(state, lookOf({ gradNorm }, [i + 1])));
  });
  assertEquals(stops, [false, false, true, true]);
  assertEquals(policy.frozen(state), [], "what freezes waits still");
});

Deno.test("planAhead refuses steps that are no whole number above 0", () => {
  for (const after of [0, -1, 1.5, NaN]) {
    assertThrows(
      () => planAhead(stopAt(1), { after }),
      InputError,
      '"after" must be a whole number of steps',
    );
  }
});
