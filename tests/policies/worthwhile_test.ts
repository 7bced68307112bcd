import { assert, assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../core/errors.ts";
import type { Component, Look } from "../../core/policy.ts";
import { anyOf, definePolicy, gradES, stopAt, worthwhile } from "../../policies/mod.ts";
import { layers } from "./cost_models.ts";
import { COMPONENTS, ends, frozenSets, lookOf } from "./looks.ts";

const MODEL = layers(3), STEPS = 100;
/** A look at one step, told how long steps and changes take. */
const lookAt = (step: number, times: Pick<Look, "stepMs" | "changeMs"> = {}): Look => ({
  ...lookOf({}, [step]),
  ...times,
});

/** Freezes the components one by one from the bottom, one each step; thaws all at a step. */
function oneByOne({ thawsAt = Infinity }: { readonly thawsAt?: number } = {}) {
  return definePolicy({
    name: "oneByOne",
    init: (components: readonly Component[]) => ({ step: 0, paths: components.map(({ path }) => path) }),
    next: (state, { step }) => ({ ...state, step }),
    frozen: ({ step, paths }) => step >= thawsAt ? [] : paths.slice(0, step),
  });
}

/** How many components are frozen after each of some steps. */
function countsOf(policy: ReturnType<typeof worthwhile>, looks: readonly Look[]): number[] {
  let state = policy.init(MODEL, { steps: STEPS });
  return looks.map((look) => policy.frozen(state = policy.next(state, look)).length);
}

Deno.test("worthwhile lets what freezes wait until it saves more steps than the change costs", () => {
  const steps = [1, 2, 3, 4, 5, 6, 7], looks = steps.map((step) => lookAt(step));
  assertEquals(
    countsOf(worthwhile(oneByOne()), looks),
    [1, 2, 3, 4, 5, 6, 7],
    "nothing tells what a change costs",
  );
  // Of 46 FLOPs, each of the lower two saves 2, and with both of them what is above needs no gradient: some 25 of 100 steps.
  assertEquals(countsOf(worthwhile(oneByOne(), { change: 20 }), looks), [0, 0, 3, 3, 3, 6, 6]);
  assertEquals(countsOf(worthwhile(oneByOne(), { change: 10, margin: 2 }), looks), [0, 0, 3, 3, 3, 6, 6]);
});

Deno.test("worthwhile takes the time of a change from the look: with short steps a set freezes that with long ones does not wait", () => {
  const at = (stepMs: number) => [1, 2, 3].map((step) => lookAt(step, { stepMs, changeMs: 100 }));
  assertEquals(countsOf(worthwhile(oneByOne()), at(200)), [1, 2, 3]);
  assertEquals(countsOf(worthwhile(oneByOne()), at(5)), [0, 0, 3]);
  assertEquals(countsOf(worthwhile(oneByOne()), at(1)), [0, 0, 0]);
  assertEquals(countsOf(worthwhile(oneByOne(), { change: 0 }), at(1)), [1, 2, 3], "what is given counts");
});

Deno.test("worthwhile freezes nothing that saves too little in the steps that are left, and thaws at once", () => {
  const late = [97, 98, 99].map((step) => lookAt(step));
  assertEquals(countsOf(worthwhile(oneByOne(), { change: 3 }), late), [0, 0, 0]);
  assertEquals(countsOf(worthwhile(oneByOne({ thawsAt: 98 }), { change: 0.1 }), late), [9, 0, 0]);
});

Deno.test("worthwhile gives the reason of the policy, and ends training when that would", () => {
  const looks = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((value, i) => {
    const gradNorm = Object.fromEntries(COMPONENTS.map(({ path }) => [path, [1 - value / 10]]));
    return lookOf({ gradNorm }, [i + 1]);
  });
  const policy = worthwhile(gradES({ tau: 0.5, alpha: 0 }), { change: 1e6 });
  let state = policy.init(COMPONENTS, { steps: 10 });
  const stops = looks.map((look) => ends(policy, state = policy.next(state, look)));
  assertEquals(stops.indexOf(true), 6);
  assertEquals(policy.frozen(state), []);

  const free = worthwhile(gradES({ tau: 0.5, alpha: 0 }), { change: 0 });
  let held = free.init(COMPONENTS, { steps: 10 });
  for (const look of looks.slice(0, 7)) held = free.next(held, look);
  const [first] = free.frozen(held);
  assertEquals(free.reason!(held, first)?.signal, "gradNorm");
  assert(free.name.startsWith("worthwhile(only(layerLinears"));
});

Deno.test("worthwhile refuses options out of range and components without cost", () => {
  for (
    const [options, name] of [[{ change: -1 }, "change"], [{ change: NaN }, "change"], [
      { margin: 0 },
      "margin",
    ]] as const
  ) {
    assertThrows(() => worthwhile(stopAt(1), options), InputError, `"${name}" must be`);
  }
  const bare = COMPONENTS.map(({ cost: _, ...component }) => component);
  assertThrows(() => worthwhile(stopAt(1)).init(bare, { steps: 9 }), InputError, "has no cost");
  assertEquals(
    frozenSets(worthwhile(anyOf(stopAt(3))), lookOf({}, [1, 2, 3])).at(-1)!.length,
    COMPONENTS.length,
  );
});
