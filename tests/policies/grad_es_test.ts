import { assertEquals } from "@std/assert";
import type { Component, Look, Signal } from "../../core/policy.ts";
import { below, gradES, layerLinears, only, sticky, type Threshold } from "../../policies/mod.ts";
import { COMPONENTS, ends, frozenSets, lookOf, STEPS } from "./looks.ts";

interface Fixture {
  readonly metric: "norm" | "delta";
  readonly tau: number;
  readonly alpha: number;
  readonly steps: number;
  readonly metric_per_step: readonly Record<string, number | null>[];
  readonly frozen_at: Record<string, number>;
}

async function readFixture(name: string): Promise<Fixture> {
  return JSON.parse(await Deno.readTextFile(new URL(`../fixtures/${name}/grades.json`, import.meta.url)));
}

function componentOf(path: string): Component {
  const layer = Number(/layers\.(\d+)/.exec(path)![1]);
  return { path: path.replace(/\.weight$/, ""), parameters: [path], layer, kind: "linear", size: 1 };
}

/** What training would deliver: readings by component, NaN where the fixture has none. */
function lookFrom({ metric_per_step }: Fixture, signal: Signal, from: number, to: number): Look {
  const rows = metric_per_step.slice(from, to);
  const paths = Object.keys(metric_per_step[0]);
  const values = paths.map((path) => [componentOf(path).path, rows.map((row) => row[path] ?? NaN)]);
  return lookOf({ [signal]: Object.fromEntries(values) }, rows.map((_, i) => from + i + 1));
}

for (const [name, metric] of [["grades-norm", "gradNorm"], ["grades-delta", "gradDelta"]] as const) {
  for (const every of [1, 7, 60]) {
    Deno.test(`gradES freezes what ${name} froze, when it did, in looks of ${every}`, async () => {
      const fixture = await readFixture(name);
      const { tau, alpha, steps } = fixture;
      const policy = gradES({ tau, alpha, metric });
      const components = Object.keys(fixture.metric_per_step[0]).map(componentOf);
      let state = policy.init(components, { steps });
      const seen: Record<string, number> = {};
      for (let from = 0; from < steps; from += every) {
        const to = Math.min(steps, from + every);
        state = policy.next(state, lookFrom(fixture, metric, from, to));
        for (const path of policy.frozen(state)) seen[`${path}.weight`] ??= to;
      }
      // Only the action is late: a step counts from the look that delivers it.
      const delivered = (step: number) => Math.min(steps, Math.ceil(step / every) * every);
      const expected = Object.entries(fixture.frozen_at).map(([path, step]) => [path, delivered(step)]);
      assertEquals(seen, Object.fromEntries(expected));
    });
  }
}

Deno.test("gradES freezes the linear components that belong to a layer, unless told otherwise", () => {
  const zeros = Object.fromEntries(COMPONENTS.map(({ path }) => [path, [0]]));
  const last = (policy: ReturnType<typeof gradES>) =>
    frozenSets(policy, lookOf({ gradNorm: zeros }, [STEPS]))[1];
  assertEquals(last(gradES({ tau: 1 })), [
    "layers.0.q_proj",
    "layers.0.up_proj",
    "layers.1.q_proj",
    "layers.1.up_proj",
  ]);
  assertEquals(last(gradES({ tau: 1, components: "*" })), COMPONENTS.map(({ path }) => path).sort());
  assertEquals(last(gradES({ tau: 1, components: (c) => c.kind === "norm" })), [
    "layers.0.input_norm",
    "layers.1.input_norm",
  ]);
});

Deno.test("gradES has the published defaults and waits for half of the steps", () => {
  const low = { gradNorm: { "layers.0.q_proj": Array(STEPS).fill(0) } };
  const sets = frozenSets(gradES({ tau: 1 }), lookOf(low, Array.from({ length: STEPS }, (_, i) => i + 1)));
  assertEquals(sets.findIndex((set) => set.length > 0), STEPS / 2 + 1);
});

Deno.test("gradES with patience wants that many steps in a row after the grace period", () => {
  const low = { gradNorm: { "layers.0.q_proj": Array(STEPS).fill(0) } };
  const look = lookOf(low, Array.from({ length: STEPS }, (_, i) => i + 1));
  const sets = frozenSets(gradES({ tau: 1, alpha: 0.25, patience: 4 }), look);
  assertEquals(sets.findIndex((set) => set.length > 0), STEPS / 4 + 4);
});

Deno.test("a policy's name is the composition that makes it", () => {
  assertEquals(
    gradES({ tau: 0.02, patience: 3 }).name,
    "only(layerLinears, untilFrozen(sticky(after(0.5, patience(3, below(gradNorm, 0.02))))))",
  );
  assertEquals(
    gradES({
      tau: 2,
      alpha: 0.3,
      metric: "weightDelta",
      normalise: "lr*size",
      components: "*.q_proj",
      stop: false,
    }).name,
    "only(*.q_proj, sticky(after(0.3, below(weightDelta/(lr*size), 2))))",
  );
  assertEquals(
    only((c) => c.size > 3, sticky(below("gradDelta", 1))).name,
    "only(predicate, sticky(below(gradDelta, 1)))",
  );
  assertEquals(
    below("gradNorm", { "vision.*": 3.3, "*": 33 }).name,
    "below(gradNorm, { vision.*: 3.3, *: 33 })",
  );
});

/** Readings of `gradNorm` that are low for some components and high for the others, for some steps. */
function lowFor(paths: readonly string[], steps: readonly number[]): Look {
  const gradNorm = COMPONENTS.map(({ path }) => [path, steps.map(() => paths.includes(path) ? 0.1 : 9)]);
  return lookOf({ gradNorm: Object.fromEntries(gradNorm) }, steps);
}

Deno.test("gradES ends training when all of its components are frozen, unless told otherwise", () => {
  const own = COMPONENTS.filter(layerLinears).map(({ path }) => path);
  const ending = (stop: boolean | undefined, paths: readonly string[]) => {
    const policy = gradES({ tau: 1, stop });
    const state = policy.next(policy.init(COMPONENTS, { steps: STEPS }), lowFor(paths, [STEPS]));
    return ends(policy, state);
  };
  assertEquals([ending(undefined, own), ending(undefined, own.slice(1)), ending(false, own)], [
    true,
    false,
    false,
  ]);
});

Deno.test("gradES does not end training in the grace period", () => {
  const policy = gradES({ tau: 1, alpha: 0.5 });
  const all = COMPONENTS.map(({ path }) => path);
  const start = policy.init(COMPONENTS, { steps: STEPS });
  assertEquals(ends(policy, policy.next(start, lowFor(all, [STEPS / 2]))), false);
  assertEquals(ends(policy, policy.next(start, lowFor(all, [STEPS / 2 + 1]))), true);
});

Deno.test("gradES compares each component with the first threshold that it matches", () => {
  const gradNorm = Object.fromEntries(COMPONENTS.map(({ path }) => [path, [5]]));
  const last = (tau: Threshold) => frozenSets(gradES({ tau }), lookOf({ gradNorm }, [STEPS]))[1];
  const low = ["layers.0.q_proj", "layers.0.up_proj"];
  const high = ["layers.1.q_proj", "layers.1.up_proj"];
  assertEquals(last({ "layers.0.*": 6, "*": 4 }), low);
  assertEquals(last({ "layers.0.*": 4, "*": 6 }), high);
  assertEquals(last({ "*": 4, "layers.0.*": 6 }), []);
  assertEquals(last([[(c) => c.layer === 1, 6], ["*", 4]]), high);
  assertEquals(last(6), [...low, ...high]);
});
