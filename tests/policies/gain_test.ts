import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { Component, ComponentCost, FreezePolicy, Json } from "../../core/policy.ts";
import { costAware } from "../../policies/mod.ts";
import { expectedGain, type Moments, nextSquare } from "../../policies/moments.ts";
import { component, lookOf, randomFrom } from "./looks.ts";

const DECAYS = { beta1: 0.9, beta2: 0.999 };

/** Adam's sums for a component whose elements have gradients of a mean and a spread, step by step. */
function adam({ size, mean, spread, seed }: { size: number; mean: number; spread: number; seed: number }) {
  const random = randomFrom(seed), { beta1, beta2 } = DECAYS;
  random();
  const m = new Float64Array(size), v = new Float64Array(size);
  return (): { first: number; second: number; benefit: number } => {
    const sums = { first: 0, second: 0, benefit: 0 };
    for (let i = 0; i < size; i++) {
      // Uniform, with variance spread^2.
      const g = mean + spread * Math.sqrt(12) * (random() - 0.5);
      m[i] = beta1 * m[i] + (1 - beta1) * g;
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      sums.first += m[i] ** 2;
      sums.second += v[i];
      sums.benefit += Math.abs(g * m[i]) / Math.sqrt(v[i]);
    }
    return sums;
  };
}

/** The gain after each of some steps. */
function gains(stream: Parameters<typeof adam>[0], steps: number): number[] {
  const next = adam(stream);
  let moments: Moments = { steps: 0, second: 0, square: 0 };
  return Array.from({ length: steps }, () => {
    const { first, second } = next();
    moments = { steps: moments.steps + 1, second, square: nextSquare(moments, { second, ...DECAYS }) };
    return expectedGain(moments, { first, size: stream.size, ...DECAYS });
  });
}

const meanOf = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

for (const [mean, spread] of [[1, 0], [1, 1], [0.3, 1]]) {
  Deno.test(`expectedGain of gradients of mean ${mean} and spread ${spread} is mean^2 / sqrt(v) an element, from early on`, () => {
    const size = 4000, found = gains({ size, mean, spread, seed: 3 }, 200);
    const expected = size * mean ** 2 / Math.sqrt(mean ** 2 + spread ** 2);
    assert(found.slice(0, 10).every(Number.isNaN));
    // 4000 elements of which each step is noisy: a tenth for the first ten, less for more of them.
    assertAlmostEquals(meanOf(found.slice(10, 20)), expected, 0.1 * expected);
    assertAlmostEquals(meanOf(found.slice(20)), expected, 0.05 * expected);
  });
}

Deno.test("expectedGain of pure noise is about 0, of either sign", () => {
  const size = 4000, found = gains({ size, mean: 0, spread: 1, seed: 5 }, 200).slice(10);
  // Noise of the size 1 an element would be 4000 if it counted.
  assert(Math.abs(meanOf(found)) < 0.01 * size, `${meanOf(found)}`);
  assert(found.some((gain) => gain < 0) && found.some((gain) => gain > 0));
});

const COST = { forward: 1, dX: 1, dW: 1, depth: 0 };
const MODEL: readonly (Component & { readonly cost: ComponentCost })[] = ["noise", "signal"].map((path) => (
  { ...component(path, { layer: 0, kind: "linear", size: path === "noise" ? 2000 : 200 }), cost: COST }
));

/** A large component of noise beside a small one that learns; `skipped` steps measure nothing. */
function course(policy: FreezePolicy, { steps, skipped = [] }: { steps: number; skipped?: number[] }): Json {
  const streams = [
    adam({ size: 2000, mean: 0, spread: 1, seed: 7 }),
    adam({ size: 200, mean: 1, spread: 1, seed: 9 }),
  ];
  let state = policy.init(MODEL, { steps });
  for (let step = 1; step <= steps; step++) {
    const frozen = policy.frozen(state), none = { first: NaN, second: NaN, benefit: NaN };
    const sums = streams.map((next, i) =>
      skipped.includes(step) || frozen.includes(MODEL[i].path) ? none : next()
    );
    const readings = (name: "first" | "second" | "benefit") =>
      Object.fromEntries(MODEL.map(({ path }, i) => [path, [sums[i][name]]]));
    const [firstMoment, secondMoment, benefit] = [readings("first"), readings("second"), readings("benefit")];
    state = policy.next(state, lookOf({ firstMoment, secondMoment, benefit }, [step]));
  }
  return state;
}

Deno.test("costAware freezes a large matrix of noise before a small one that learns, which benefit does not", () => {
  const at = (worth: "gain" | "benefit"): readonly string[] => {
    const policy = costAware({ targetSpeedup: 1.3, worth });
    assertEquals(policy.signals, worth === "gain" ? ["firstMoment", "secondMoment"] : ["benefit"]);
    return policy.frozen(course(policy, { steps: 80 }));
  };
  assertEquals(at("gain"), ["noise"]);
  assertEquals(at("benefit"), ["signal"]);
});

Deno.test("costAware follows moments over a skipped step, and begins anew with those of what froze", () => {
  type Seen = { readonly moments: { readonly [path: string]: Moments } };
  const policy = costAware({ targetSpeedup: 1.3, alpha: 0.5, every: 20 });
  const whole = course(policy, { steps: 40 }) as Seen;
  assertEquals(Object.keys(whole.moments), ["signal"]);
  assertEquals(whole.moments.signal.steps, 40);
  const gap = course(policy, { steps: 40, skipped: [15] }) as Seen;
  assertEquals(gap.moments.signal.steps, 39);
});
