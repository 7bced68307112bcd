/** What costAware decides in the course of a run. */

import { assert, assertEquals } from "@std/assert";
import type { FreezePolicy } from "../../core/policy.ts";
import { costAware, type CostAwareOptions, stepCost } from "../../policies/mod.ts";
import { costOf, lookAt, priced, randomModel, subsets } from "./cost_models.ts";
import { randomFrom } from "./looks.ts";

/** How good a set is, best first in what counts first: worth that is above 0, what a step costs, worth below 0. */
type Rank = readonly [value: number, cost: number, lack: number];

function compare(a: Rank, b: Rank): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
}

const BUDGETS: { readonly [name: string]: CostAwareOptions } = {
  "targetSpeedup 1.15": { targetSpeedup: 1.15 },
  "targetSpeedup 1.3": { targetSpeedup: 1.3 },
  "targetSpeedup 1.6 and thaw 1": { targetSpeedup: 1.6, thaw: 1, curiosity: 0 },
  "targetSpeedup 1.3 and thaw 1.5": { targetSpeedup: 1.3, thaw: 1.5, curiosity: 0 },
  "maxSaving 0.3": { maxSaving: 0.3 },
  "maxSaving 0.3 and thaw 1.5": { maxSaving: 0.3, thaw: 1.5, curiosity: 0 },
};

for (const [name, options] of Object.entries(BUDGETS)) {
  Deno.test(`costAware with ${name} ends a run of steady readings with the best of all sets, noise among them`, () => {
    const { targetSpeedup, maxSaving } = options;
    for (let seed = 1; seed <= 50; seed++) {
      // Of small costs, every other time: then many sets cost as much.
      const model = randomModel(seed, 8, seed % 2 ? 100 : 2), full = stepCost(model, []);
      const random = randomFrom(seed + 5);
      random();
      // Whole numbers, so that sums of them are level in any order.
      const worths = Object.fromEntries(model.map(({ path }) => [path, Math.floor(12 * random()) - 5]));
      const sumOf = (active: readonly string[], part: (worth: number) => number): number =>
        active.reduce((sum, path) => sum + part(worths[path]), 0);
      const rankOf = (active: readonly string[]): Rank => {
        const cost = costOf(model, active), worth = sumOf(active, (w) => Math.max(0, w));
        return [
          targetSpeedup === undefined ? worth / cost : worth,
          cost,
          sumOf(active, (w) => Math.min(0, w)),
        ];
      };
      const allowed = subsets(model).filter((active) =>
        targetSpeedup === undefined
          ? full - costOf(model, active) <= maxSaving! * full
          : full / costOf(model, active) >= targetSpeedup
      ).map(rankOf);
      if (allowed.length === 0) continue;
      const policy = costAware({ ...options, alpha: 0.2, every: 3, worth: "benefit", weight: 1 });
      let state = policy.init(model, { steps: 20 });
      for (let step = 1; step <= 20; step++) {
        const frozen = policy.frozen(state);
        const seen = Object.entries(worths).map((
          [path, worth],
        ) => [path, frozen.includes(path) ? NaN : worth]);
        state = policy.next(state, lookAt(Object.fromEntries(seen), step));
      }
      const frozen = policy.frozen(state);
      const active = model.map(({ path }) => path).filter((path) => !frozen.includes(path));
      assertEquals(rankOf(active), allowed.reduce((a, b) => compare(b, a) > 0 ? b : a), `seed ${seed}`);
    }
  });
}

Deno.test("costAware with targetSpeedup meets each part of its budget, and never runs out of sets, when worths change", () => {
  for (const thaw of [undefined, 1, 2]) {
    for (let seed = 1; seed <= 50; seed++) {
      const model = randomModel(seed, 8), full = stepCost(model, []), random = randomFrom(seed + 9);
      random();
      const most = full / Math.min(...model.map(({ path }) => costOf(model, [path])));
      // Up to the cheapest component alone, where no other set is allowed.
      const targetSpeedup = seed % 5 === 0 ? most : 1 + random() * (most - 1);
      const policy = costAware({ targetSpeedup, alpha: 0.2, every: 4, worth: "benefit", weight: 1, thaw });
      let state = policy.init(model, { steps: 20 });
      for (let step = 1; step <= 20; step++) {
        const worths = Object.fromEntries(model.map(({ path }) => [path, 12 * random() - 5]));
        state = policy.next(state, lookAt(worths, step));
        const frozen = policy.frozen(state), part = Math.min(4, Math.floor(step / 4)) / 4;
        assert(frozen.length < model.length);
        // Costs are whole numbers up to 3000: closer together are only sums in another order.
        assert(
          stepCost(model, frozen) <= full - part * (full - full / targetSpeedup) + 1e-9,
          `${step}, ${seed}`,
        );
        if (part === 1) assert(full / stepCost(model, frozen) >= targetSpeedup);
      }
    }
  }
});

Deno.test("costAware freezes for a part of its budget what is worth least of what freezes at last", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const model = randomModel(seed, 6, seed % 2 ? 100 : 4), full = stepCost(model, []);
    const random = randomFrom(seed + 3);
    random();
    const worths = Object.fromEntries(model.map(({ path }) => [path, Math.floor(12 * random())]));
    const policy = costAware({ targetSpeedup: 1.4, alpha: 0.25, every: 5, worth: "benefit", weight: 1 });
    let state = policy.init(model, { steps: 20 });
    const sets = Array.from({ length: 20 }, (_, i) => {
      const frozen = policy.frozen(state);
      const seen = Object.entries(worths).map(([path, worth]) => [path, frozen.includes(path) ? NaN : worth]);
      state = policy.next(state, lookAt(Object.fromEntries(seen), i + 1));
      return policy.frozen(state);
    });
    assertEquals(sets[3], []);
    const last = sets[19],
      lost = (paths: readonly string[]) => paths.reduce((sum, path) => sum + worths[path], 0);
    [4, 9, 14].forEach((at, i) => {
      const frozen = sets[at], limit = full - (i + 1) / 3 * (full - full / 1.4);
      assert(
        frozen.every((path) => last.includes(path)) &&
          sets[Math.max(3, at - 5)].every((path) => frozen.includes(path)),
      );
      const before = sets[Math.max(3, at - 5)];
      const parts = subsets(model).filter((part) =>
        part.every((path) => last.includes(path)) && before.every((path) => part.includes(path)) &&
        stepCost(model, part) <= limit
      );
      assertEquals(lost(frozen), Math.min(...parts.map(lost)), `seed ${seed}`);
    });
  }
});

/** The active components of a chain of four after each of some steps; a frozen one is not measured. */
function course(
  policy: FreezePolicy,
  benefits: (step: number) => Record<string, number>,
  steps: number,
): string[] {
  const model = [0, 1, 2, 3].map((depth) => priced("abcd"[depth], { forward: 1, dX: 1, dW: 1, depth }));
  let state = policy.init(model, { steps });
  return Array.from({ length: steps }, (_, i) => {
    const frozen = policy.frozen(state);
    const seen = Object.entries(benefits(i + 1)).map((
      [path, value],
    ) => [path, frozen.includes(path) ? NaN : value]);
    state = policy.next(state, lookAt(Object.fromEntries(seen), i + 1, 1 / (i + 1)));
    return model.map(({ path }) => path).filter((path) => !policy.frozen(state).includes(path)).join("");
  });
}

const STEADY = { a: 1, b: 3, c: 3, d: 3 };

/** What was measured at a rate that falls with the step. */
const fading = (values: Readonly<Record<string, number>>, step: number): Record<string, number> =>
  Object.fromEntries(Object.entries(values).map(([path, value]) => [path, value / step]));

Deno.test("costAware freezes for a part nothing that trains at last, though another set is worth more for that part", () => {
  // 31 FLOPs: at last 12, which only the lower one alone does not exceed, with 11; at first 21.5, and the upper one alone has 20.
  const model = [{ dX: 0, dW: 1 }, { dX: 10, dW: 20 }].map((cost, depth) =>
    priced(`${depth}`, { forward: 0, ...cost, depth })
  );
  const policy = costAware({ targetSpeedup: 31 / 12, alpha: 0.5, every: 1, worth: "benefit" });
  const state = policy.next(policy.init(model, { steps: 4 }), lookAt({ 0: 10, 1: 15 }, 2));
  assertEquals(policy.frozen(state), ["1"]);
});

Deno.test("costAware freezes nothing in its grace period, and then what is worth least per learning rate", () => {
  const policy = costAware({ targetSpeedup: 1.2, worth: "benefit", weight: 1 });
  // Per learning rate 1, 3, 3, 3 all the time: the fall of the raw benefits with the rate changes nothing.
  const sets = course(policy, (step) => fading(STEADY, step), 40);
  assertEquals(sets, [...Array(9).fill("abcd"), ...Array(31).fill("bcd")]);
});

Deno.test("costAware saves in equal parts, a part a decision, the last one while a set still lasts", () => {
  // 12 components of 1 FLOP a product, all side by side: no chain. 24 FLOPs, of which 6 are saved at last.
  const model = Array.from({ length: 12 }, (_, i) => priced(`${i}`, { forward: 1, dX: 1, dW: 1, depth: 0 }));
  const even = Object.fromEntries(model.map(({ path }, i) => [path, 1 + i]));
  const counts = (options: Partial<CostAwareOptions>, steps: number): number[] => {
    const policy = costAware({ targetSpeedup: 4 / 3, worth: "benefit", ...options });
    let state = policy.init(model, { steps });
    return Array.from({ length: steps }, (_, i) => {
      state = policy.next(state, lookAt(even, i + 1));
      return policy.frozen(state).length;
    });
  };
  const times = (n: number, count: number): number[] => Array(n).fill(count);
  assertEquals(counts({}, 20), [...times(4, 0), ...times(5, 2), ...times(5, 4), ...times(6, 6)]);
  assertEquals(counts({ alpha: 0.5 }, 20), [...times(9, 0), ...times(5, 3), ...times(6, 6)]);
  assertEquals(counts({ every: 15 }, 20), [...times(4, 0), ...times(16, 6)]);
  assertEquals(counts({ every: 16 }, 20), times(20, 0)); // its only set would not last
  assertEquals(counts({ alpha: 1 }, 20), times(20, 0));
});

Deno.test("costAware never thaws unless told to, and then where that is worth a factor more", () => {
  const falling = (step: number) => fading(step < 4 ? STEADY : { a: 1, b: 0.3, c: 0.3, d: 0.3 }, step);
  const at = (thaw?: number) =>
    course(
      costAware({
        targetSpeedup: 1.2,
        alpha: 0.25,
        every: 3,
        worth: "benefit",
        weight: 1,
        curiosity: 0,
        thaw,
      }),
      falling,
      12,
    );
  const before = ["abcd", "abcd", "bcd", "bcd", "bcd"];
  assertEquals(at(), [...before, ...Array(7).fill("bcd")]);
  // What is remembered of the first, 1, takes the place of two others, of 0.6 together.
  assertEquals(at(1.6), [...before, ...Array(7).fill("ad")]);
  assertEquals(at(1.7), [...before, ...Array(7).fill("bcd")]);
});

Deno.test("costAware with thaw tries a frozen component again in time, and lets it go when that is not worth it", () => {
  const rest = { alpha: 0, every: 1, worth: "benefit", weight: 1, thaw: 1 } as const;
  const policy = costAware({ targetSpeedup: 1.2, curiosity: 0.5, ...rest });
  const sets = course(policy, (step) => fading(STEADY, step), 20);
  assert(sets.slice(0, 3).every((set) => set === "bcd"));
  const tries = sets.slice(0, -2).flatMap((set, i) => set.includes("a") ? [i] : []);
  assert(tries.length >= 2, `${sets}`);
  for (const i of tries) assertEquals(sets[i + 1], "bcd");
});

Deno.test("costAware lets the first reading after a rest take the place of what it remembered", () => {
  const rest = { alpha: 0.2, every: 2, worth: "benefit", weight: 0.1, thaw: 1 } as const;
  const policy = costAware({ targetSpeedup: 1.2, curiosity: 2.5, ...rest });
  // What is remembered of the first, 2, grows to 7 and outweighs two others. Its first readings are 2 again: it goes.
  const sets = course(policy, (step) => fading({ ...STEADY, a: 2 }, step), 10);
  assertEquals(sets.map((set) => set.includes("a")), [1, 0, 0, 1, 1, 0, 0, 1, 1, 1].map(Boolean));
});

Deno.test("costAware takes what it froze and training still measures, before the next look, for no memory", () => {
  const rest = { alpha: 0, every: 1, worth: "benefit", weight: 1, thaw: 1 } as const;
  const policy = costAware({ targetSpeedup: 1.2, curiosity: 1, ...rest });
  const model = [0, 1, 2, 3].map((depth) => priced("abcd"[depth], { forward: 1, dX: 1, dW: 1, depth }));
  let state = policy.init(model, { steps: 10 });
  for (const step of [1, 2, 3]) {
    state = policy.next(state, lookAt({ ...STEADY, a: 2 }, step));
    assertEquals(policy.frozen(state), ["a"]);
  }
});
