/** What a policy says beside its frozen set: probes, the end, the best step, reasons. */

import { assert, assertEquals } from "@std/assert";
import type { FreezePolicy, Json, Reason } from "../../core/policy.ts";
import {
  after,
  allOf,
  anyOf,
  atMost,
  below,
  closePrefix,
  definePolicy,
  every,
  except,
  hysteresis,
  keepActive,
  only,
  patience,
  prefix,
  rotate,
  schedule,
  smooth,
  sticky,
  stopAt,
  untilFrozen,
} from "../../policies/mod.ts";
import { frozenSets, lookOf, PATHS, randomFrom, randomLook, statesOf, STEPS } from "./looks.ts";
import { POLICIES, witness } from "./table.ts";

const LOOKS = [21, 22, 23].map((seed) => randomLook(seed));

/** Answers at random, differently at each step, and also for what it does not freeze; of half of the paths it knows why. */
function talker(seed: number): FreezePolicy<{ step: number }> {
  const some = (step: number, part: number): string[] => {
    const random = randomFrom(7919 * seed + 104729 * step + 15485863 * part);
    random();
    return PATHS.filter(() => random() < 0.5);
  };
  return definePolicy({
    name: `talker(${seed})`,
    signals: ["gradNorm"],
    init: () => ({ step: 0 }),
    next: (_, { step }) => ({ step }),
    frozen: ({ step }) => some(step, 1),
    probed: ({ step }) => some(step, 2),
    stopped: ({ step }, frozen) => some(step, 3).includes(PATHS[0]) !== frozen.includes(PATHS[1]),
    best: ({ step }) => some(step, 4).includes(PATHS[0]) ? null : step,
    reason: ({ step }, path) =>
      PATHS.indexOf(path) % 2 === 1
        ? null
        : { signal: "chance", value: step, threshold: seed, rule: `talker(${seed})` },
  });
}

const WRAPPERS: readonly ((policy: FreezePolicy) => FreezePolicy)[] = [
  (policy) => after(0.3, policy),
  (policy) => every(3, policy),
  (policy) => patience(2, policy),
  (policy) => smooth(0.4, policy),
  (policy) => sticky(policy),
  (policy) => closePrefix(policy, { share: 0.4 }),
  (policy) => atMost(0.4, policy),
  (policy) => keepActive("layers.1.*", policy),
  (policy) => only("*_proj", policy),
  (policy) => except("lm_head", policy),
];

function innerOf(state: Json): Json {
  return (state as { readonly inner: Json }).inner;
}

/** Runs a law on each wrapper around each talker, at each step. */
function forAll(law: (outer: FreezePolicy, state: Json, inner: FreezePolicy) => void): void {
  for (const [i, wrap] of WRAPPERS.entries()) {
    const inner = talker(i + 1), outer = wrap(inner);
    for (const look of LOOKS) for (const state of statesOf(outer, look)) law(outer, state, inner);
  }
}

Deno.test("a wrapper ends training when its policy does, with the step that its policy calls the best", () => {
  forAll((outer, state, inner) => {
    for (const frozen of [[], PATHS]) {
      assertEquals(outer.stopped!(state, frozen), inner.stopped!(innerOf(state), frozen), outer.name);
    }
    assertEquals(outer.best!(state), inner.best!(innerOf(state)), outer.name);
  });
});

Deno.test("the talker of these tests stops at some steps, not at others, and probes what it does not freeze", () => {
  for (let seed = 1; seed <= WRAPPERS.length; seed++) {
    const policy = talker(seed), states = statesOf(policy, LOOKS[0]) as { step: number }[];
    const counts = [
      (s: { step: number }) => policy.stopped!(s, []),
      (s: { step: number }) => policy.best!(s) !== null,
    ].map((ask) => states.filter((state) => ask(state)).length);
    assert(counts.every((count) => count > 2 && count < STEPS - 2), `${seed}: ${counts}`);
    assert(states.some((state) => policy.probed!(state).length > 0));
  }
});

Deno.test("untilFrozen ends training when everything is frozen, or when its policy ends it", () => {
  const inner = talker(3), outer = untilFrozen(anyOf(inner, stopAt(15)));
  LOOKS.flatMap((look) => statesOf(outer, look)).forEach((state) => {
    const all = outer.frozen(state).length === PATHS.length;
    const [own] = innerOf(state) as { step: number }[];
    assertEquals(outer.stopped!(state, PATHS), all || inner.stopped!(own, PATHS));
    assertEquals(outer.stopped!(state, []), inner.stopped!(own, []), "another policy keeps all active");
  });
});

Deno.test("a wrapper probes what its policy probes, as far as it is frozen", () => {
  forAll((outer, state, inner) => {
    const frozen = outer.frozen(state);
    const expected = inner.probed!(innerOf(state)).filter((path) => frozen.includes(path));
    assertEquals(outer.probed!(state), expected, outer.name);
  });
});

Deno.test("a wrapper gives reasons for what it freezes, and for nothing else", () => {
  forAll((outer, state) => {
    const frozen = outer.frozen(state);
    for (const path of PATHS) {
      if (!frozen.includes(path)) assertEquals(outer.reason!(state, path), null, outer.name);
    }
  });
});

Deno.test("a wrapper has its policy's reason for what that freezes now", () => {
  const memoryless = [0, 2, 5, 6, 7, 8, 9].map((i) => WRAPPERS[i]);
  for (const [i, wrap] of memoryless.entries()) {
    const inner = talker(i + 1), outer = wrap(inner);
    for (const state of statesOf(outer, LOOKS[0])) {
      for (
        const path of outer.frozen(state).filter((path) =>
          inner.frozen(innerOf(state) as never).includes(path)
        )
      ) {
        assertEquals(outer.reason!(state, path), inner.reason!(innerOf(state) as never, path), outer.name);
      }
    }
  }
});

Deno.test("a wrapper around a policy that answers nothing answers nothing", () => {
  for (const wrap of WRAPPERS) {
    const { probed, stopped, best } = wrap(witness);
    assertEquals([probed, stopped, best], [undefined, undefined, undefined]);
  }
  const { probed, stopped, best } = anyOf(witness, witness);
  assertEquals([probed, stopped, best], [undefined, undefined, undefined]);
});

Deno.test("every policy probes only what it freezes, and only what is frozen has a reason", () => {
  for (const policy of POLICIES) {
    for (const look of LOOKS) {
      for (const state of statesOf(policy, look)) {
        const frozen = policy.frozen(state);
        assert((policy.probed?.(state) ?? []).every((path) => frozen.includes(path)), policy.name);
        for (const path of PATHS) {
          const reason = policy.reason?.(state, path) ?? null;
          const known = frozen.includes(path) && !policy.name.includes("witness");
          assertEquals(reason !== null, known, `${policy.name} ${path}`);
        }
      }
    }
  }
});

Deno.test("every policy answers the same from its state as JSON", () => {
  for (const policy of POLICIES) {
    for (const state of statesOf(policy, LOOKS[0])) {
      const answers = (s: Json): unknown => [
        policy.frozen(s),
        policy.probed?.(s),
        policy.stopped?.(s, policy.frozen(s)),
        policy.best?.(s),
        PATHS.map((path) => policy.reason?.(s, path)),
      ];
      const said = answers(state);
      assertEquals(answers(JSON.parse(JSON.stringify(state))), said, policy.name);
      const reasons = PATHS.map((path) => policy.reason?.(state, path) ?? null);
      assertEquals(JSON.parse(JSON.stringify(reasons)), reasons, policy.name);
    }
  }
});

Deno.test("reasons say what holds: the value lies below the threshold where both are known", () => {
  let count = 0;
  for (const policy of POLICIES) {
    for (const state of statesOf(policy, LOOKS[1])) {
      for (const path of policy.frozen(state)) {
        const { value = null, threshold = null, rule = "" } = policy.reason?.(state, path) ?? {};
        if (value === null || threshold === null || rule.startsWith("closePrefix")) continue;
        assert(value < threshold, `${policy.name} ${path} ${value} ${threshold}`);
        count++;
      }
    }
  }
  assert(count > 1000, `only ${count} reasons with both`);
});

Deno.test("anyOf ends when one ends, allOf when all end; both have the first best step", () => {
  const [a, b, silent] = [talker(1), talker(2), witness];
  for (const look of LOOKS) {
    const [left, right] = [a, b].map((policy) => statesOf(policy, look) as { step: number }[]);
    const [any, all] = [anyOf(silent, a, b), allOf(a, b)];
    const [anyStates, allStates, never] = [any, all, allOf(a, silent)].map((policy) =>
      statesOf(policy, look)
    );
    left.forEach((state, i) => {
      for (const frozen of [[], PATHS]) {
        const stops = [a.stopped!(state, frozen), b.stopped!(right[i], frozen)];
        assertEquals(any.stopped!(anyStates[i], frozen), stops[0] || stops[1]);
        assertEquals(all.stopped!(allStates[i], frozen), stops[0] && stops[1]);
        assertEquals(allOf(a, silent).stopped!(never[i], frozen), false);
      }
      const best = a.best!(state) ?? b.best!(right[i]);
      assertEquals([any.best!(anyStates[i]), all.best!(allStates[i])], [best, best]);
    });
  }
});

Deno.test("anyOf and allOf probe what any of them probes, as far as it is frozen", () => {
  const [a, b] = [talker(1), talker(2)];
  for (const both of [anyOf(a, b), allOf(a, b)]) {
    for (const state of statesOf(both, LOOKS[0])) {
      const [left, right] = state as { step: number }[];
      const asked = [...a.probed!(left), ...b.probed!(right)];
      const expected = both.frozen(state).filter((path) => asked.includes(path));
      assertEquals([...both.probed!(state)].sort(), [...expected].sort());
    }
  }
});

Deno.test("anyOf and allOf have the reason of the first policy that can say", () => {
  const seen = (policy: FreezePolicy) => reasonsOf(policy, { lm_head: [0.2] }).lm_head;
  const first: Reason = { signal: "gradNorm", value: 0.2, threshold: 0.3, rule: "below(gradNorm, 0.3)" };
  assertEquals(seen(anyOf(below("gradNorm", 0.1), witness, below("gradNorm", 0.3), stopAt(1))), first);
  assertEquals(seen(allOf(witness, below("gradNorm", 0.3), stopAt(1))), first);
});

/** Reasons after a look of steps 1, 2, ... with some readings of `gradNorm`. */
function reasonsOf(policy: FreezePolicy, gradNorm: Record<string, number[]>): Record<string, Reason | null> {
  const steps = (Object.values(gradNorm)[0] ?? Array(STEPS).fill(0)).map((_, i) => i + 1);
  const state = statesOf(policy, lookOf({ gradNorm }, steps)).at(-1)!;
  return Object.fromEntries(policy.frozen(state).map((path) => [path, policy.reason!(state, path)]));
}

Deno.test("below says by which value it decides now, sticky and every keep that of the moment", () => {
  const readings = { lm_head: [0.5, 0.2, 0.1, 0.25] };
  const why = (value: number): Record<string, Reason> => ({
    lm_head: { signal: "gradNorm", value, threshold: 0.3, rule: "below(gradNorm, 0.3)" },
  });
  const small = below("gradNorm", 0.3);
  assertEquals(reasonsOf(small, readings), why(0.25));
  assertEquals(reasonsOf(sticky(small), readings), why(0.2));
  assertEquals(reasonsOf(every(3, small), readings), why(0.1));
  assertEquals(reasonsOf(sticky(patience(2, small)), readings), why(0.1));
  const halves = reasonsOf(below("gradNorm", 0.3, { normalise: "size" }), { lm_head: [16] });
  assertEquals(halves.lm_head, {
    signal: "gradNorm/size",
    value: 0.25,
    threshold: 0.3,
    rule: "below(gradNorm/size, 0.3)",
  });
});

Deno.test("smooth says that the value is an average", () => {
  const { lm_head } = reasonsOf(smooth(0.5, below("gradNorm", 0.3)), { lm_head: [0.1, 0.25] });
  // (0.5 * 0.1 + 0.25) / 1.5
  assertEquals(lm_head, {
    signal: "gradNorm",
    value: 0.2,
    threshold: 0.3,
    rule: "smooth(0.5, below(gradNorm, 0.3))",
  });
});

Deno.test("hysteresis says by which value it froze", () => {
  const policy = hysteresis("gradNorm", { low: 0.3, high: 0.6 });
  const { lm_head } = reasonsOf(policy, { lm_head: [0.25, 0.5, 0.1] });
  assertEquals(lm_head, {
    signal: "gradNorm",
    value: 0.25,
    threshold: 0.3,
    rule: "hysteresis(gradNorm, 0.3, 0.6)",
  });
});

Deno.test("prefix says how little a layer changed, and against what, when it was passed", () => {
  const q = (n: number) => `layers.${n}.q_proj`;
  const reasons = reasonsOf(prefix({ intervals: 10 }), {
    [q(0)]: [8, 8, 8, 8, 9, 9],
    [q(1)]: [8, 8, 4, 4, 4, 4],
  });
  const why = {
    signal: "change of gradNorm",
    value: 0,
    threshold: 0.25,
    rule: "prefix(10 intervals, percentile 50)",
  };
  assertEquals([reasons.embed_tokens, reasons[q(0)], reasons[q(1)]], [why, why, undefined]);
});

Deno.test("policies of the step alone say at which step, where one is set", () => {
  const after20 = (policy: FreezePolicy) => Object.values(reasonsOf(policy, {}))[0];
  const why = { signal: "step", value: null };
  assertEquals(after20(stopAt(7)), { ...why, threshold: 7, rule: "stopAt(7)" });
  assertEquals(after20(schedule({ first: 0.5 })), { ...why, threshold: 10, rule: "schedule(0.5, linear)" });
  assertEquals(after20(rotate({ every: 3 })), { ...why, threshold: null, rule: "rotate(1 every 3, up)" });
});

Deno.test("closePrefix says which share of the block its policy had frozen", () => {
  const reasons = reasonsOf(closePrefix(below("gradNorm", 0.3), { share: 0.5 }), {
    "layers.0.q_proj": [0.1],
    "layers.0.up_proj": [0.2],
  });
  const closed = {
    signal: "frozen share of its block",
    value: 0.5,
    threshold: 0.5,
    rule: "closePrefix(..., 0.5)",
  };
  assertEquals([reasons.embed_tokens, reasons["layers.0.input_norm"]], [closed, closed]);
  assertEquals(reasons["layers.0.up_proj"]?.value, 0.2);
});

Deno.test("definePolicy leaves out probes of what is active, and asks no reasons of it", () => {
  const asked: string[] = [];
  const policy = definePolicy({
    name: "open",
    init: () => [],
    next: (state) => state,
    frozen: () => ["lm_head"],
    probed: () => ["embed_tokens", "lm_head"],
    reason: (_, path) => (asked.push(path), null),
  });
  assertEquals(policy.probed!([]), ["lm_head"]);
  assertEquals([policy.reason!([], "embed_tokens"), policy.reason!([], "lm_head")], [null, null]);
  assertEquals(asked, ["lm_head"]);
});

Deno.test("definePolicy hands validation losses on, step by step", () => {
  const recorder = definePolicy({
    name: "recorder",
    init: () => [] as (number | null)[],
    next: (
      seen,
      { validation },
    ) => [...seen, validation === undefined ? -1 : Number.isNaN(validation) ? null : validation],
    frozen: () => [],
  });
  const look = { ...lookOf({}, [1, 2]), validation: [NaN, 3] };
  assertEquals(recorder.next([], look), [null, 3]);
  assertEquals(recorder.next([], lookOf({}, [1])), [-1]);
  const wrapped = smooth(1, after(0, recorder));
  const state = wrapped.next(wrapped.init([], { steps: 2 }), look);
  assertEquals(innerOf(innerOf(state)), [null, 3]);
});

Deno.test("definePolicy hands on which steps were skipped, step by step", () => {
  const recorder = definePolicy({
    name: "recorder",
    init: () => [] as (readonly number[])[],
    next: (seen, { look }) => [...seen, look.skipped ?? [-1]],
    frozen: () => [],
  });
  assertEquals(recorder.next([], { ...lookOf({}, [1, 2, 3]), skipped: [1, 3] }), [[1], [], [3]]);
  assertEquals(recorder.next([], lookOf({}, [1, 2])), [[-1], [-1]]);
});

Deno.test("after freezes nothing in its grace period, also what a policy freezes from the start", () => {
  const sets = frozenSets(after(0.3, rotate({ every: 3 })), LOOKS[0]);
  assertEquals(sets.findIndex((set) => set.length > 0), 0.3 * STEPS + 1);
});
