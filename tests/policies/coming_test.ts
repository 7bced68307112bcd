/** What policies announce before a look, and what wrappers make of it. */

import { assert, assertEquals } from "@std/assert";
import type { FreezePolicy, Json } from "../../core/policy.ts";
import {
  after,
  allOf,
  anyOf,
  atMost,
  bottomFreeze,
  closePrefix,
  definePolicy,
  every,
  except,
  keepActive,
  only,
  patience,
  planAhead,
  smooth,
  sticky,
  thaw,
  topFreeze,
  untilFrozen,
  worthwhile,
} from "../../policies/mod.ts";
import { COMPONENTS, cut, PATHS, randomLook, STEPS } from "./looks.ts";
import { POLICIES, witness } from "./table.ts";

const LOOKS = [1, 2, 3].map((seed) => randomLook(seed));

/** Freezes another set in each step, and knows the next ones. */
const prophet = definePolicy({
  name: "prophet",
  init: (_, { lookEvery = 1 }) => ({ step: 0, lookEvery }),
  next: (state, { step }) => ({ ...state, step }),
  frozen: ({ step }) => setOf(step),
  coming: ({ step, lookEvery }) => setOf(step + lookEvery),
});

function setOf(step: number): string[] {
  return PATHS.filter((_, i) => (step * 7 + i * step) % 5 < 2);
}

/** Wrappers that pass on what their policy announces, or make their own announcement of it. */
const PASSING: readonly ((policy: FreezePolicy) => FreezePolicy)[] = [
  untilFrozen,
  sticky,
  planAhead,
  anyOf,
  allOf,
  (policy) => after(0, policy),
  (policy) => after(0.3, policy),
  (policy) => smooth(0.5, policy),
  (policy) => keepActive("layers.1.up_proj", policy),
  (policy) => only("layers.1.*", policy),
  (policy) => except("layers.1.input_norm", policy),
  (policy) => atMost(0.4, policy),
  (policy) => closePrefix(policy, { share: 0.3 }),
  (policy) => every(2, policy),
  (policy) => every(4, policy),
  (policy) => anyOf(policy, bottomFreeze(0.5)),
  (policy) => allOf(policy, topFreeze(0.5)),
];

/** Wrappers that cannot know what comes: a step that is skipped, a clock or readings decide. */
const SILENT: readonly ((policy: FreezePolicy) => FreezePolicy)[] = [
  (policy) => patience(2, policy),
  (policy) => worthwhile(policy),
  (policy) => thaw(policy),
];

const ANNOUNCING: readonly FreezePolicy[] = [
  prophet,
  bottomFreeze(0.5),
  topFreeze(0.5),
  planAhead(witness),
  planAhead(witness, { after: 5 }),
];

/** Whether a policy announces a change somewhere, and always what then comes. */
function announces(policy: FreezePolicy, { lookEvery = 1, looks = LOOKS } = {}): boolean {
  let told = false;
  if (policy.coming === undefined) return told;
  for (const look of looks) {
    let state: Json = policy.init(COMPONENTS, { steps: STEPS, lookEvery }), active = true;
    for (let at = 0; at + lookEvery <= STEPS; at += lookEvery) {
      const coming = policy.coming(state), before = active ? [] : sorted(policy.frozen(state));
      state = policy.next(state, cut(look, at, at + lookEvery));
      active = false;
      if (coming === null) continue;
      const name = `${policy.name} before step ${at + lookEvery}, looking every ${lookEvery}`;
      assertEquals(sorted(coming), sorted(policy.frozen(state)), name);
      told ||= String(sorted(coming)) !== String(before);
    }
  }
  return told;
}

function sorted(set: readonly string[]): string[] {
  return [...new Set(set)].sort();
}

Deno.test("what a policy announces is frozen after the next look, of every policy, wrapper and pair of wrappers", () => {
  for (const lookEvery of [1, 2, 3, 5]) {
    for (const policy of [...POLICIES, ...ANNOUNCING]) announces(policy, { lookEvery });
    for (const policy of ANNOUNCING) for (const wrap of PASSING) announces(wrap(policy), { lookEvery });
  }
  const options = { lookEvery: 2, looks: LOOKS.slice(1, 2) };
  for (const inner of PASSING) {
    // A selector may have nothing left to select within itself.
    for (const outer of PASSING) if (outer !== inner) announces(outer(inner(prophet)), options);
  }
});

Deno.test("wrappers pass on what their policy announces; those that cannot know it announce nothing", () => {
  for (const policy of ANNOUNCING.slice(0, 3)) assert(announces(policy), policy.name);
  for (const wrap of PASSING) {
    const policy = wrap(prophet);
    assert(announces(policy), policy.name);
    assertEquals(
      wrap(witness).coming === undefined,
      !/^(planAhead|anyOf.*bottom|allOf.*top)/.test(policy.name),
    );
  }
  for (const wrap of SILENT) assertEquals(wrap(prophet).coming, undefined);
});

Deno.test("sticky, every and planAhead announce nothing where looks are further apart than what they follow", () => {
  const asked = (policy: FreezePolicy, lookEvery: number): readonly string[] | null =>
    policy.coming!(policy.init(COMPONENTS, { steps: STEPS, lookEvery }));
  assertEquals(asked(sticky(prophet), 2), null);
  assertEquals(asked(planAhead(prophet, { after: 2 }), 3), null);
  assertEquals(asked(every(2, prophet), 3), null);
  assertEquals(asked(every(4, prophet), 3), setOf(0));
  assertEquals(asked(after(0, prophet), 3), setOf(3));
  assertEquals(asked(after(0.3, prophet), 6), []);
  assertEquals(asked(after(0.3, prophet), 7), null);
  assertEquals(
    [asked(anyOf(after(0.3, prophet), witness), 6), asked(anyOf(after(0.3, prophet), witness), 7)],
    [[], null],
  );
  assertEquals(asked(every(3, prophet), 3), setOf(3));
});
