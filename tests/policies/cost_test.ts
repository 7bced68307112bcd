import { InputError } from "@firn/train";
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import type { Component, FreezePolicy } from "../../core/policy.ts";
import { costAware, type CostAwareOptions, only, stepCost } from "../../policies/mod.ts";
import { costOf, layers, lookAt, type Model, priced, randomModel, subsets } from "./cost_models.ts";
import { component, randomFrom } from "./looks.ts";

function randomBenefits(seed: number, model: Model): Record<string, number> {
  const random = randomFrom(seed + 77);
  random();
  // Over two orders of magnitude, as measured ones are.
  return Object.fromEntries(model.map(({ path }) => [path, 10 ** (2 * random())]));
}

/** One decision, in the first step. */
const AT_ONCE = { alpha: 0, every: 9, worth: "benefit" } as const;

/** What is active after it. */
function decided(
  options: CostAwareOptions,
  model: Model,
  benefits: Readonly<Record<string, number>>,
): string[] {
  const policy = costAware({ ...AT_ONCE, ...options });
  const frozen = policy.frozen(policy.next(policy.init(model, { steps: 10 }), lookAt(benefits, 1)));
  return model.map(({ path }) => path).filter((path) => !frozen.includes(path));
}

function benefitOf(benefits: Readonly<Record<string, number>>, active: readonly string[]): number {
  return active.reduce((sum, path) => sum + benefits[path], 0);
}

/** The worth of the best of all sets that a budget allows. */
function bruteForce(
  model: Model,
  { allows, worth }: {
    allows: (cost: number) => boolean;
    worth: (active: readonly string[], cost: number) => number;
  },
): number {
  return subsets(model).reduce((best, active) => {
    const cost = costOf(model, active);
    return allows(cost) ? Math.max(best, worth(active, cost)) : best;
  }, -Infinity);
}

Deno.test("stepCost adds what is active, and the chain of gradients down to the lowest of it", () => {
  const model = layers(2);
  const cost = (...frozen: string[]) => stepCost(model, frozen);
  // 6 forward, 6 dW, and dX of the four above the lowest depth, of 2 FLOPs each.
  assertEquals(cost(), 12 + 12 + 8);
  assertEquals(cost("0.top"), 12 + 10 + 8);
  assertEquals(cost("0.left"), 12 + 10 + 8); // its neighbour keeps the chain alive
  assertEquals(cost("0.left", "0.right"), 12 + 8 + 6);
  assertEquals(cost("0.left", "0.right", "0.top"), 12 + 6 + 2);
  assertEquals(cost("0.left", "0.right", "0.top", "1.left", "1.right"), 12 + 2);
  assertEquals(cost(...model.map(({ path }) => path)), 12);
});

Deno.test("stepCost falls, or stays, when more is frozen", () => {
  for (const seed of [1, 2, 3]) {
    const model = randomModel(seed, 30), random = randomFrom(seed);
    const order = model.map(({ path }) => path).sort(() => random() - 0.5);
    const costs = order.map((_, i) => stepCost(model, order.slice(0, i)));
    costs.slice(1).forEach((cost, i) => assert(cost <= costs[i]));
  }
});

for (const targetSpeedup of [1.1, 1.3, 1.6, 2]) {
  Deno.test(`costAware with targetSpeedup ${targetSpeedup} keeps as much benefit as the best of all sets`, () => {
    for (let seed = 1; seed <= 12; seed++) {
      const model = randomModel(seed, 11), benefits = randomBenefits(seed, model);
      const limit = stepCost(model, []) / targetSpeedup;
      const allows = (cost: number): boolean => cost <= limit;
      const best = bruteForce(model, { allows, worth: (active) => benefitOf(benefits, active) });
      if (best === -Infinity) continue;
      const active = decided({ targetSpeedup }, model, benefits);
      assert(allows(costOf(model, active)));
      // Only the order in which the benefits are added differs.
      assertAlmostEquals(benefitOf(benefits, active), best, 1e-9 * best, `seed ${seed}`);
    }
  });
}

for (const maxSaving of [0.1, 0.25, 0.4]) {
  Deno.test(`costAware with maxSaving ${maxSaving} has the benefit a FLOP of the best of all sets that save no more`, () => {
    for (let seed = 1; seed <= 12; seed++) {
      const model = randomModel(seed, 11), benefits = randomBenefits(seed, model);
      const floor = stepCost(model, []) * (1 - maxSaving);
      const allows = (cost: number): boolean => cost >= floor;
      const worth = (active: readonly string[], cost: number): number => benefitOf(benefits, active) / cost;
      const best = bruteForce(model, { allows, worth });
      const active = decided({ maxSaving }, model, benefits), cost = costOf(model, active);
      assert(allows(cost));
      assertAlmostEquals(worth(active, cost), best, 1e-9 * best, `seed ${seed}`);
    }
  });
}

Deno.test("costAware is within 1 % of the relaxed optimum for 150 components", () => {
  for (const seed of [1, 2]) {
    const model = randomModel(seed, 150), benefits = randomBenefits(seed, model);
    const budget = stepCost(model, []) / 1.4;
    const active = decided({ targetSpeedup: 1.4 }, model, benefits);
    assert(costOf(model, active) <= budget);
    const bounds = [...new Set(model.map(({ cost }) => cost.depth))].map((depth) => {
      const able = model.filter(({ cost }) => cost.depth >= depth);
      // With parts of components allowed the best are those of most benefit a FLOP: no whole set does better.
      let room = budget - costOf(model, [able.find(({ cost }) => cost.depth === depth)!.path]) +
        able.find(({ cost }) => cost.depth === depth)!.cost.dW;
      return able.toSorted((a, b) => benefits[b.path] / b.cost.dW - benefits[a.path] / a.cost.dW)
        .reduce((sum, { path, cost }) => {
          const part = Math.max(0, Math.min(1, room / cost.dW));
          room -= cost.dW;
          return sum + part * benefits[path];
        }, 0);
    });
    assert(benefitOf(benefits, active) >= 0.99 * Math.max(...bounds), `seed ${seed}`);
  }
});

Deno.test("costAware finds the one set that is cheap enough among more than it can tell apart", () => {
  // 2^14 sets, each of a cost of its own.
  const model = Array.from(
    { length: 14 },
    (_, i) => priced(`${i}`, { forward: 1, dX: 0, dW: 2 ** i, depth: 0 }),
  );
  const targetSpeedup = stepCost(model, []) / costOf(model, ["0"]);
  const even = Object.fromEntries(model.map(({ path }) => [path, 1]));
  assertEquals(decided({ targetSpeedup }, model, even), ["0"]);
});

Deno.test("costAware gives up a low component that is worth more than its neighbours but not its chain", () => {
  const model = [0, 1, 2, 3].map((depth) => priced(`${depth}`, { forward: 1, dX: 1, dW: 1, depth }));
  // Without the lowest 9 of 11 FLOPs: its 2 of benefit are less than the 3 that two others would cost.
  assertEquals(decided({ targetSpeedup: 1.2 }, model, { 0: 2, 1: 1.5, 2: 1.5, 3: 1.5 }), ["1", "2", "3"]);
  assertEquals(decided({ targetSpeedup: 1.2 }, model, { 0: 4, 1: 1.5, 2: 1.5, 3: 1.5 }).includes("0"), true);
});

Deno.test("costAware with maxSaving freezes nothing that is worth its cost", () => {
  const model = layers(2), all = model.map(({ path }) => path);
  const even = Object.fromEntries(all.map((path) => [path, 1]));
  assertEquals(decided({ maxSaving: 0.9 }, model, even), all);
  assertEquals(
    decided({ maxSaving: 0.9 }, model, { ...even, "1.left": 0.01 }),
    all.filter((path) => path !== "1.left"),
  );
});

Deno.test("costAware trains on without readings, and with benefits of 0 keeps its budget", () => {
  const model = layers(2), all = model.map(({ path }) => path);
  const policy = costAware({ targetSpeedup: 1.5, ...AT_ONCE });
  const start = policy.init(model, { steps: 10 });
  const some = Object.fromEntries(all.slice(1).map((path) => [path, 1]));
  assertEquals(policy.frozen(policy.next(start, lookAt(some, 1))), []);
  const active = decided({ targetSpeedup: 1.5 }, model, Object.fromEntries(all.map((path) => [path, 0])));
  assert(active.length > 0 && costOf(model, active) <= stepCost(model, []) / 1.5);
});

Deno.test("costAware does not freeze what is worth nothing, or less, for that alone", () => {
  const model = layers(2), all = model.map(({ path }) => path);
  assertEquals(decided({ maxSaving: 0.5 }, model, Object.fromEntries(all.map((path) => [path, 0]))), all);
  // 32 FLOPs, of which 2 are to be saved: one component of the five that are worth nothing.
  for (const rest of [0, -1]) {
    const one = { ...Object.fromEntries(all.map((path) => [path, rest])), "0.left": 1 };
    assertEquals(decided({ targetSpeedup: 32 / 30 }, model, one).length, 5);
  }
});

Deno.test("costAware says what share of all benefit a frozen component had", () => {
  const policy = costAware({ targetSpeedup: 1.2, ...AT_ONCE });
  const model = [0, 1, 2, 3].map((depth) => priced(`${depth}`, { forward: 1, dX: 1, dW: 1, depth }));
  const state = policy.next(policy.init(model, { steps: 10 }), lookAt({ 0: 1, 1: 3, 2: 3, 3: 3 }, 1));
  assertEquals(policy.reason!(state, "0"), {
    signal: "share of all benefit",
    value: 0.1,
    threshold: null,
    rule: policy.name,
  });
});

Deno.test("costAware says of noise by how much it outweighs, with a share below 0", () => {
  const policy = costAware({ targetSpeedup: 1.2, ...AT_ONCE });
  const model = [0, 1, 2, 3].map((depth) => priced(`${depth}`, { forward: 1, dX: 1, dW: 1, depth }));
  const state = policy.next(policy.init(model, { steps: 10 }), lookAt({ 0: -3, 1: 3, 2: 3, 3: -1 }, 1));
  assertEquals([policy.frozen(state), policy.reason!(state, "0")!.value], [["0"], -0.3]);
});

Deno.test("costAware goes on saying what share a component had when it froze, whatever becomes of the others", () => {
  const policy = costAware({ targetSpeedup: 1.2, every: 1, alpha: 0, worth: "benefit", weight: 1 });
  const model = [0, 1, 2, 3].map((depth) => priced(`${depth}`, { forward: 1, dX: 1, dW: 1, depth }));
  let state = policy.next(policy.init(model, { steps: 10 }), lookAt({ 0: 1, 1: 3, 2: 3, 3: 3 }, 1));
  state = policy.next(state, lookAt({ 1: 1, 2: 1, 3: 1 }, 2));
  assertEquals([policy.frozen(state), policy.reason!(state, "0")!.value], [["0"], 0.1]);
});

Deno.test("costAware with targetSpeedup freezes one thing that is worth little where a dearer one has to freeze anyway", () => {
  // An MLP whose lowest layer is the widest: without it a step is 1.43 times as cheap, and without all others 1.28 times.
  const model = [[301, 0], [147, 147], [147, 147], [4, 4]].map(([dW, dX], depth) =>
    priced(`${depth}`, { forward: dW, dX, dW, depth })
  );
  const active = decided({ targetSpeedup: 1.3, thaw: 1 }, model, { 0: 5, 1: 1, 2: 1, 3: 0.1 });
  assertEquals(active, ["1", "2", "3"]);
});

Deno.test("costAware does not freeze what costs nothing while something below it is active", () => {
  const model = [1, 0, 1, 1].map((dW, depth) => priced(`${depth}`, { forward: 1, dX: 1, dW, depth }));
  assertEquals(decided({ maxSaving: 0.5 }, model, { 0: 1, 1: -1, 2: 1, 3: 1 }), ["0", "1", "2", "3"]);
  assertEquals(decided({ targetSpeedup: 1.3 }, model, { 0: 1, 1: -1, 2: 3, 3: 3 }), ["2", "3"]);
});

Deno.test("costAware says which component has no cost, and which budget is out of reach", () => {
  const bare = component("bare", { layer: 0, kind: "linear", size: 4 });
  const start = (policy: FreezePolicy, model: readonly Component[]) => policy.init(model, { steps: 10 });
  const message = `Cannot tell what a step costs as "bare" has no cost: take components from training`;
  assertThrows(() => start(costAware({ maxSaving: 0.5 }), [...layers(1), bare]), InputError, message);
  assertThrows(() => stepCost([bare], []), InputError, message);
  assertEquals(start(only("0.*", costAware({ maxSaving: 0.5 })), [...layers(1), bare]) !== null, true);
  // 32 FLOPs become 14.
  start(costAware({ targetSpeedup: 2.28 }), layers(2));
  const limit =
    `"targetSpeedup" is 2.3 and a step that trains the cheapest component alone is 2.286 times as cheap`;
  assertThrows(() => start(costAware({ targetSpeedup: 2.3 }), layers(2)), InputError, limit);
  const free = priced("free", { forward: 0, dX: 0, dW: 0, depth: 0 });
  assertThrows(() => start(costAware({ targetSpeedup: 1.1 }), [free]), InputError, "lower it");
});

Deno.test("costAware wants one budget, and options in their ranges", () => {
  assertThrows(
    () => costAware({}),
    InputError,
    `one of "targetSpeedup" and "maxSaving" must be given: got none`,
  );
  assertThrows(() => costAware({ targetSpeedup: 2, maxSaving: 0.5 }), InputError, "got both");
  for (const value of [1, 0.5, NaN, Infinity]) {
    assertThrows(() => costAware({ targetSpeedup: value }), InputError, `a number above 1: got ${value}`);
  }
  for (const value of [0, 1, NaN]) {
    assertThrows(
      () => costAware({ maxSaving: value }),
      InputError,
      `"maxSaving" must be above 0 and below 1: got ${value}`,
    );
  }
  const rest = {
    alpha: [-0.1, 1.1],
    every: [0, 1.5],
    weight: [0, 1.1],
    thaw: [0.9, NaN],
    curiosity: [-1, NaN],
    beta1: [0, 1],
    beta2: [0, 1],
  };
  for (const [name, values] of Object.entries(rest)) {
    for (const value of values) {
      assertThrows(() => costAware({ maxSaving: 0.5, [name]: value }), InputError, `"${name}" must be`);
    }
  }
});
