import { assert, assertEquals } from "@std/assert";
import {
  after,
  allOf,
  anyOf,
  definePolicy,
  except,
  gradES,
  only,
  patience,
  sticky,
} from "../../policies/mod.ts";
import { COMPONENTS, cut, ends, frozenSets, lookOf, PATHS, randomLook, statesOf, STEPS } from "./looks.ts";
import { ENDING, MEASURING, p, POLICIES, q, r, SCHEDULED } from "./table.ts";

const LOOKS = [1, 2, 3].map((seed) => randomLook(seed));

Deno.test("every policy but those that end training freezes something in the random looks of these tests", () => {
  for (const policy of [...MEASURING, ...SCHEDULED]) {
    assert(LOOKS.some((look) => frozenSets(policy, look).some((set) => set.length > 0)), policy.name);
  }
});

Deno.test("every policy that ends training does so in the random looks of these tests, once for all", () => {
  for (const policy of ENDING) {
    for (const look of LOOKS) {
      const stops = statesOf(policy, look).map((state) => ends(policy, state));
      assert(stops.includes(true) && stops[0] === false, policy.name);
      assertEquals(stops.lastIndexOf(false), stops.indexOf(true) - 1, policy.name);
      assertEquals(frozenSets(policy, look).flat(), []);
    }
  }
});

Deno.test("every policy decides the same in one look of N steps and in N looks of one", () => {
  for (const policy of POLICIES) {
    for (const look of LOOKS) {
      const states = statesOf(policy, look);
      const start = policy.init(COMPONENTS, { steps: STEPS });
      assertEquals(policy.next(start, look), states[STEPS], policy.name);
      assertEquals(policy.next(policy.next(start, cut(look, 0, 7)), cut(look, 7, STEPS)), states[STEPS]);
    }
  }
});

Deno.test("every policy goes on from its state as JSON at every step", () => {
  for (const policy of POLICIES) {
    const [look] = LOOKS;
    statesOf(policy, look).forEach((state, step, states) => {
      const saved = JSON.parse(JSON.stringify(state));
      assertEquals(saved, state, policy.name);
      assertEquals(policy.next(saved, cut(look, step, STEPS)), states[STEPS], policy.name);
    });
  }
});

Deno.test("every policy leaves the states it was given as they were", () => {
  for (const policy of POLICIES) {
    const states = statesOf(policy, LOOKS[0]);
    const before = JSON.stringify(states);
    states.slice(0, STEPS).forEach((state, i) => policy.next(state, cut(LOOKS[0], i, STEPS)));
    assertEquals(JSON.stringify(states), before, policy.name);
  }
});

Deno.test("no policy that measures freezes on readings that are absent, as NaN or altogether", () => {
  const steps = LOOKS[0].steps;
  const nothing = Object.fromEntries(PATHS.map((path) => [path, steps.map(() => NaN)]));
  const absent = lookOf(
    { gradNorm: nothing, gradDelta: nothing, weightDelta: nothing, benefit: nothing },
    steps,
  );
  for (const policy of MEASURING) {
    for (const look of [absent, lookOf({}, steps)]) {
      const validated = { ...look, validation: steps.map(() => NaN) };
      assertEquals(frozenSets(policy, validated), Array(STEPS + 1).fill([]), policy.name);
    }
  }
});

Deno.test("nothing freezes by a step that was skipped: what decides at set times uses the steps before", () => {
  const nothing = Object.fromEntries(PATHS.map((path) => [path, [NaN]]));
  const timed = /(every|planAhead|prefix|costAware|thaw|adaGradSelect)\(/;
  for (const policy of [...MEASURING, ...ENDING].filter(({ name }) => !timed.test(name))) {
    const readings = Object.fromEntries(policy.signals.map((signal) => [signal, nothing]));
    for (const look of LOOKS) {
      statesOf(policy, look).slice(0, STEPS).forEach((state, step) => {
        const steps = [step + 1], absent = { loss: [NaN], validation: [NaN], skipped: steps };
        const next = policy.next(state, { ...lookOf(readings, steps), ...absent });
        const before = policy.frozen(state),
          added = policy.frozen(next).filter((path) => !before.includes(path));
        assertEquals(added, [], `${policy.name} in step ${step + 1}`);
        assertEquals(ends(policy, next), ends(policy, state), policy.name);
        assertEquals(policy.best?.(next), policy.best?.(state), policy.name);
      });
    }
  }
});

Deno.test("patience counts over a skipped step as if it had not been", () => {
  const policy = patience(3, p), low = Object.fromEntries(PATHS.map((path) => [path, [0.1]]));
  const nothing = Object.fromEntries(PATHS.map((path) => [path, [NaN]]));
  const frozenAfter = (course: readonly (typeof low)[]): readonly string[] =>
    policy.frozen(course.reduce((state, gradNorm, i) => {
      const look = lookOf({ gradNorm }, [i + 1]);
      return policy.next(state, gradNorm === nothing ? { ...look, skipped: [i + 1] } : look);
    }, policy.init(COMPONENTS, { steps: STEPS })));
  assertEquals(frozenAfter([low, low, nothing]), []);
  assertEquals(frozenAfter([low, nothing, low, low]), PATHS);
  assertEquals(frozenAfter([low, low, low, nothing]), PATHS);
});

Deno.test("no policy freezes on the absent first readings of a resume past alpha * T", () => {
  const state = gradES({ tau: 0.5, alpha: 0.5, metric: "gradDelta" });
  const [look] = LOOKS;
  const first = Object.fromEntries(PATHS.map((path) => [path, [NaN, 0.9]]));
  for (
    const saved of [
      state.init(COMPONENTS, { steps: STEPS }),
      state.next(statesOf(state, look)[10], lookOf({}, [])),
    ]
  ) {
    assertEquals(state.frozen(state.next(saved, lookOf({ gradDelta: first }, [15, 16]))), []);
  }
});

Deno.test("anyOf and allOf are commutative", () => {
  for (const look of LOOKS) {
    POLICIES.forEach((policy, i) => {
      const other = POLICIES[(i + 5) % POLICIES.length];
      assertEquals(frozenSets(anyOf(policy, q, other), look), frozenSets(anyOf(other, policy, q), look));
      assertEquals(frozenSets(allOf(policy, q, other), look), frozenSets(allOf(other, policy, q), look));
    });
  }
});

Deno.test("anyOf and allOf are idempotent", () => {
  for (const policy of POLICIES) {
    assertEquals(frozenSets(anyOf(policy, policy), LOOKS[0]), frozenSets(policy, LOOKS[0]));
    assertEquals(frozenSets(allOf(policy, policy), LOOKS[0]), frozenSets(policy, LOOKS[0]));
  }
});

Deno.test("anyOf freezes the union and allOf the intersection at each step", () => {
  const [look] = LOOKS;
  const [left, right] = [frozenSets(p, look), frozenSets(q, look)];
  const union = left.map((set, i) => [...new Set([...set, ...right[i]])].sort());
  const intersection = left.map((set, i) => set.filter((path) => right[i].includes(path)));
  assertEquals(frozenSets(anyOf(p, q), look), union);
  assertEquals(frozenSets(allOf(p, q), look), intersection);
});

Deno.test("sticky never thaws, and freezes all that the policy ever froze", () => {
  for (const look of LOOKS) {
    const ever = new Set<string>();
    const inner = frozenSets(p, look);
    frozenSets(sticky(p), look).forEach((set, i) => {
      inner[i].forEach((path) => ever.add(path));
      assertEquals(set, [...ever].sort());
    });
  }
});

Deno.test("sticky twice is sticky once", () => {
  assertEquals(frozenSets(sticky(sticky(p)), LOOKS[0]), frozenSets(sticky(p), LOOKS[0]));
});

Deno.test("after a grace of 0 is the policy from the first step, of 1 never", () => {
  for (const policy of [p, q, r]) {
    assertEquals(frozenSets(after(0, policy), LOOKS[0]), frozenSets(policy, LOOKS[0]));
    assertEquals(frozenSets(after(1, policy), LOOKS[0]), Array(STEPS + 1).fill([]));
  }
});

Deno.test("after hides the readings of the grace period from sticky and patience within", () => {
  const [look] = LOOKS;
  const hidden = cut(look, 8, STEPS);
  for (const policy of [q, r]) {
    assertEquals(frozenSets(after(0.4, policy), look).slice(8), frozenSets(policy, hidden));
  }
});

Deno.test("after starts above ceil(alpha * T), in decimal arithmetic", () => {
  const low = Object.fromEntries(PATHS.map((path) => [path, [0]]));
  const firstStep = (alpha: number, steps: number) => {
    const policy = after(alpha, p);
    const start = policy.init(COMPONENTS, { steps });
    const freezes = (step: number) =>
      policy.frozen(policy.next(start, lookOf({ gradNorm: low }, [step]))).length > 0;
    return Array.from({ length: steps }, (_, i) => i + 1).find(freezes);
  };
  assertEquals(firstStep(0.3, 60), 19);
  assertEquals(firstStep(0.5, 5), 4);
  assertEquals(firstStep(0.55, 100), 56); // 0.55 * 100 is 55.00000000000001 in binary
});

Deno.test("patience of 1 is the policy itself", () => {
  for (const look of LOOKS) assertEquals(frozenSets(patience(1, p), look), frozenSets(p, look));
});

Deno.test("patience asks for consecutive steps and starts again after an absent reading", () => {
  const gradNorm = { lm_head: [0, 0, 1, 0, 0, NaN, 0, 0, 0, 0] };
  const sets = frozenSets(patience(3, p), lookOf({ gradNorm }, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]));
  assertEquals(sets.map((set) => set.length), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
});

Deno.test("only and except split what a policy freezes", () => {
  for (const look of LOOKS) {
    for (const selector of ["layers.0.*", (c: { kind: string }) => c.kind === "linear"]) {
      const [inside, outside, all] = [only(selector, p), except(selector, p), p].map((s) =>
        frozenSets(s, look)
      );
      assert(inside.flat().every((path) => !outside.flat().includes(path)));
      assertEquals(all, inside.map((set, i) => [...set, ...outside[i]].sort()));
    }
  }
});

Deno.test("only drops paths that a policy names without having been shown them", () => {
  const stubborn = definePolicy({ name: "stubborn", init: () => [], next: (s) => s, frozen: () => PATHS });
  assertEquals(
    frozenSets(only("*_proj", stubborn), LOOKS[0])[1],
    PATHS.filter((x) => x.endsWith("_proj")).sort(),
  );
});

Deno.test("below without sticky thaws a component at the next look, as a frozen one is not measured", () => {
  const gradNorm = (value: number) => ({ gradNorm: { lm_head: [value] } });
  const frozen = p.next(p.init(COMPONENTS, { steps: STEPS }), lookOf(gradNorm(0), [1]));
  assertEquals(p.frozen(frozen), ["lm_head"]);
  assertEquals(p.frozen(p.next(frozen, lookOf(gradNorm(NaN), [2]))), []);
});

Deno.test("below at the threshold itself is not below", () => {
  const set = (value: number) => frozenSets(p, lookOf({ gradNorm: { lm_head: [value] } }, [1]))[1];
  assertEquals([set(0.3), set(0.3 - 1e-9), set(0)], [[], ["lm_head"], ["lm_head"]]);
});

Deno.test("a policy that measures decides otherwise when given other readings", () => {
  for (const policy of MEASURING) {
    assert(new Set(LOOKS.map((look) => String(frozenSets(policy, look)))).size > 1, policy.name);
  }
});

Deno.test("a scheduled policy decides the same whatever the readings, and measures nothing", () => {
  for (const policy of SCHEDULED) {
    assertEquals(policy.signals, []);
    assertEquals(frozenSets(policy, LOOKS[0]), frozenSets(policy, lookOf({}, LOOKS[0].steps)), policy.name);
  }
});

Deno.test("every policy names only components that it was shown, each once", () => {
  for (const policy of POLICIES) {
    for (const set of frozenSets(policy, LOOKS[2])) {
      assertEquals(new Set(set).size, set.length, policy.name);
      assert(set.every((path) => PATHS.includes(path)), policy.name);
    }
  }
});

Deno.test("every policy has a name of its own", () => {
  assertEquals(new Set(POLICIES.map(({ name }) => name)).size, POLICIES.length);
});
