import { assert, assertEquals, assertNotEquals } from "@std/assert";
import type { Component, FreezePolicy } from "../../core/policy.ts";
import { blocksOf, prefix, randomSubset, rotate, type RotateOptions, schedule } from "../../policies/mod.ts";
import { randomOrder } from "../../policies/random.ts";
import { component, COMPONENTS, lookOf, PATHS } from "./looks.ts";

/** One component a layer, named by it. */
function stack(layers: number): Component[] {
  return Array.from({ length: layers }, (_, n) => component(`${n}`, { layer: n, kind: "linear", size: 4 }));
}

const HEAD = component("head", { layer: null, kind: "linear", size: 4 });
const EMBEDDING = component("embedding", { layer: null, kind: "embedding", size: 4 });

/** What is frozen after a step; 0 is before the first. */
function frozenAt(policy: FreezePolicy, components: readonly Component[], step: number): readonly string[] {
  const start = policy.init(components, { steps: 100 });
  return policy.frozen(step === 0 ? start : policy.next(start, lookOf({}, [step])));
}

/** The step after which each component is first frozen. */
function times(policy: FreezePolicy, components: readonly Component[]): Record<string, number> {
  const found: Record<string, number> = {};
  for (let step = 0; step <= 100; step++) {
    for (const path of frozenAt(policy, components, step)) found[path] ??= step;
  }
  return found;
}

Deno.test("blocksOf puts embeddings and what comes before the layers below, the rest above", () => {
  const late = { ...EMBEDDING, path: "late" };
  const first = component("patches", { layer: null, kind: "linear", size: 4 });
  assertEquals(blocksOf([first, ...stack(3).toReversed(), HEAD, late]), {
    below: ["patches", "late"],
    layers: [["0"], ["1"], ["2"]],
    above: ["head"],
  });
  assertEquals(blocksOf([]), { below: [], layers: [], above: [] });
  const { layers } = blocksOf(
    [2, 10, 1].map((n) => component(`${n}`, { layer: n, kind: "linear", size: 4 })),
  );
  assertEquals(layers, [["1"], ["2"], ["10"]]);
});

Deno.test("schedule freezes at FreezeOut's times, linear and cubic", () => {
  const model = [EMBEDDING, ...stack(4), HEAD];
  // 100 * (0.5 + 0.5 i / 4), and 100 * (0.8 + 0.2 i / 4)^3: 51.2, 61.4, 72.9, 85.7
  assertEquals(times(schedule({ first: 0.5 }), model), { embedding: 50, 0: 50, 1: 63, 2: 75, 3: 88 });
  const cubic = schedule({ first: 0.8, spacing: "cubic" });
  assertEquals(times(cubic, model), { embedding: 52, 0: 52, 1: 62, 2: 73, 3: 86 });
});

Deno.test("schedule trains the top to the end, with nothing above the layers too", () => {
  assertEquals(times(schedule({ first: 0.5 }), stack(3)), { 0: 50, 1: 75 });
  assertEquals(times(schedule({ first: 0.5 }), [EMBEDDING, ...stack(1)]), {});
  assertEquals(times(schedule({ first: 1 }), [...stack(2), HEAD]), { 0: 100, 1: 100 });
  assertEquals(times(schedule({ first: 0.55 }), [...stack(1), HEAD]), { 0: 55 }); // in binary just above 55
});

Deno.test("randomOrder holds each index once and depends on seed and draw", () => {
  const order = randomOrder(50, { seed: 3, draw: 4 });
  assertEquals(order.toSorted((a, b) => a - b), [...order.keys()]);
  assertEquals(randomOrder(50, { seed: 3, draw: 4 }), order);
  for (
    const other of [{ seed: 3, draw: 5 }, { seed: 4, draw: 4 }, { seed: 4, draw: 3 }, { seed: -3, draw: 4 }]
  ) {
    assertNotEquals(randomOrder(50, other), order);
  }
});

Deno.test("randomSubset freezes each component equally often, and one draw does not tell the next", () => {
  const draws = 4000;
  const policy = randomSubset({ share: 0.5, every: 1, seed: 2 });
  const sets = Array.from({ length: draws }, (_, draw) => frozenAt(policy, COMPONENTS, draw));
  assert(sets.every((set) => set.length === PATHS.length / 2));
  for (const path of PATHS) {
    const count = sets.filter((set) => set.includes(path)).length;
    const again = sets.filter((set, i) => i > 0 && set.includes(path) && sets[i - 1].includes(path)).length;
    // Five standard deviations of a binomial count: 158, and 137 of those with a chance of a quarter.
    assert(Math.abs(count - draws / 2) < 158, `${path} ${count}`);
    assert(Math.abs(again - draws / 4) < 137, `${path} ${again}`);
  }
});

Deno.test("randomSubset keeps a set for the steps of a draw, and a seed for its sets", () => {
  const sets = (seed: number) =>
    Array.from(
      { length: 60 },
      (_, step) => frozenAt(randomSubset({ share: 0.4, every: 20, seed }), COMPONENTS, step),
    );
  for (const draw of [0, 20, 40]) for (let i = 0; i < 20; i++) assertEquals(sets(1)[draw + i], sets(1)[draw]);
  assertEquals(sets(1), sets(1));
  assertNotEquals(sets(1), sets(2));
  assertEquals(sets(1)[0].length, 3); // 0.4 of 8, rounded down
});

Deno.test("randomSubset of share 0 freezes nothing and of share 1 everything", () => {
  const set = (share: number) => frozenAt(randomSubset({ share, every: 1 }), COMPONENTS, 7);
  assertEquals([set(0), set(1).toSorted()], [[], [...PATHS].sort()]);
});

/** The active components after each of some steps. */
function active(options: RotateOptions, components: readonly Component[], steps: number): string[][] {
  return Array.from({ length: steps }, (_, step) => {
    const frozen = frozenAt(rotate(options), components, step);
    return components.map(({ path }) => path).filter((path) => !frozen.includes(path));
  });
}

Deno.test("rotate goes up, or down, block by block, and starts again", () => {
  const model = [EMBEDDING, ...stack(2), HEAD];
  const up = [["embedding"], ["embedding"], ["0"], ["0"], ["1"], ["1"], ["head"], ["head"]];
  assertEquals(active({ every: 2 }, model, 10), [...up, ...up.slice(0, 2)]);
  assertEquals(active({ every: 2, order: "down" }, model, 8), up.toReversed());
});

Deno.test("rotate trains several blocks at a time, and what is left in the last turn of a round", () => {
  assertEquals(active({ every: 1, active: 2 }, stack(5), 4), [["0", "1"], ["2", "3"], ["4"], ["0", "1"]]);
  assertEquals(active({ every: 1, active: 3 }, stack(3), 2), [["0", "1", "2"], ["0", "1", "2"]]);
});

Deno.test("rotate shuffled gives every block its turn in each round, in another order", () => {
  const turns = active({ every: 1, order: "shuffled", seed: 4 }, stack(6), 24).map(([path]) => path);
  const rounds = [0, 6, 12, 18].map((from) => turns.slice(from, from + 6));
  for (const round of rounds) assertEquals(round.toSorted(), ["0", "1", "2", "3", "4", "5"]);
  assert(new Set(rounds.map(String)).size > 1);
});

Deno.test("rotate at random has as many active at each turn, each block as often as the others", () => {
  const turns = active({ every: 1, active: 2, order: "random", seed: 4 }, stack(6), 3000);
  assert(turns.every((paths) => paths.length === 2));
  for (const { path } of stack(6)) {
    const count = turns.filter((paths) => paths.includes(path)).length;
    // Five standard deviations of 3000 draws with a chance of a third.
    assert(Math.abs(count - 1000) < 130, `${path} ${count}`);
  }
});

Deno.test("rotate keeps active what it is told to, outside of all blocks", () => {
  const options = { every: 1, always: (c: Component) => c.layer === null };
  const turns = active(options, [EMBEDDING, ...stack(2), HEAD], 3);
  assertEquals(turns, [["embedding", "0", "head"], ["embedding", "1", "head"], ["embedding", "0", "head"]]);
});

/** The frozen layers after intervals of four steps, each layer with one level an interval. */
function prefixes(percentile: number, levels: readonly (readonly number[])[]): (readonly string[])[] {
  const policy = prefix({ intervals: 25, percentile });
  const model = [EMBEDDING, ...stack(levels[0].length), HEAD];
  let state = policy.init(model, { steps: 100 });
  return levels.map((level, i) => {
    const steps = [1, 2, 3, 4].map((n) => 4 * i + n);
    const wobble = (value: number) => [value - 0.5, value + 0.5, NaN, value];
    const gradNorm = Object.fromEntries(level.map((value, n) => [`${n}`, wobble(value)]));
    state = policy.next(state, lookOf({ gradNorm }, steps));
    return policy.frozen(state);
  });
}

Deno.test("prefix freezes below the first layer whose change reaches the percentile, computed by hand", () => {
  // Changes 0.1, 0.2, 0.4, 0.8: percentile 25 is 0.175, 50 is 0.3, 75 is 0.5, as numpy has them.
  const levels = [[10, 10, 10, 10], [9, 8, 6, 2]];
  assertEquals(prefixes(0, levels), [[], []]);
  assertEquals(prefixes(25, levels), [[], ["embedding", "0"]]);
  assertEquals(prefixes(50, levels), [[], ["embedding", "0", "1"]]);
  assertEquals(prefixes(75, levels), [[], ["embedding", "0", "1", "2"]]);
  assertEquals(prefixes(100, levels), [[], ["embedding", "0", "1", "2"]]);
});

Deno.test("prefix goes on from the lowest active layer, for good", () => {
  // The second changes are 0.5, 0.25 and 0 of the layers that are left: median 0.25.
  const levels = [[10, 8, 8, 8], [10, 4, 4, 8], [NaN, 2, 3, 8], [NaN, 2, 2.7, 4], [NaN, 9, 9, 9]];
  const [, second, third, fourth, fifth] = prefixes(50, levels);
  assertEquals([second, third], [["embedding", "0"], ["embedding", "0"]]);
  assertEquals(fourth, ["embedding", "0", "1"]);
  assertEquals(fifth.slice(0, 3), fourth);
});

Deno.test("prefix never passes a layer without readings, or one without a gradient", () => {
  assertEquals(prefixes(75, [[10, NaN, 10, 10], [9, NaN, 6, 2]])[1], ["embedding", "0"]);
  assertEquals(prefixes(75, [[10, 0, 10, 10], [9, 0, 6, 2]])[1], ["embedding", "0"]);
  assertEquals(prefixes(75, [[NaN, 10, 10, 10], [NaN, 8, 6, 2]])[1], []);
});
