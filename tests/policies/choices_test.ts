/** Policies that choose layers by their gradients: gradientProbe and adaGradSelect. */

import { InputError } from "@firn/train";
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { adaGradSelect, type AdaGradSelectOptions, gradientProbe } from "../../policies/mod.ts";
import { randomShares, randomStream } from "../../policies/random.ts";
import { component, frozenSets, lookOf, randomLook } from "./looks.ts";

const LAYERS = Array.from(
  { length: 8 },
  (_, n) => component(`layers.${n}`, { layer: n, kind: "linear", size: 16 }),
);

/** Readings of `sum g^2` of all layers, the same at each step. */
function squares(values: readonly number[], steps: readonly number[]) {
  const gradSquare = Object.fromEntries(values.map((value, n) => [`layers.${n}`, steps.map(() => value)]));
  return lookOf({ gradSquare }, steps);
}

function activeAt(policy: ReturnType<typeof adaGradSelect>, state: ReturnType<typeof policy.init>): number[] {
  return LAYERS.flatMap(({ path }, n) => policy.frozen(state).includes(path) ? [] : [n]);
}

Deno.test("gradientProbe trains the layers of the largest gradients after the probe, and never changes its mind", () => {
  const policy = gradientProbe({ steps: 3, share: 0.25 }), steps = [1, 2, 3];
  const start = policy.init(LAYERS, { steps: 100 });
  assertEquals(policy.frozen(policy.next(start, squares([1, 9, 2, 3, 4, 8, 0, 1], [1, 2]))), []);
  const chosen = policy.next(start, squares([1, 9, 2, 3, 4, 8, 0, 1], steps));
  assertEquals(activeAt(policy, chosen), [1, 5]);
  const { value, threshold } = policy.reason!(chosen, "layers.4")!;
  assertAlmostEquals(value!, 2, 1e-12);
  assertAlmostEquals(threshold!, Math.sqrt(8), 1e-12);
  const later = policy.next(chosen, squares([99, 0, 99, 0, 0, 0, 0, 0], [4, 5]));
  assertEquals(activeAt(policy, later), [1, 5]);
});

Deno.test("gradientProbe adds the norms of a layer's components, and takes one layer at least", () => {
  const part = (path: string, layer: number) => component(path, { layer, kind: "linear", size: 4 });
  const parts = [
    part("layers.0.q", 0),
    part("layers.0.up", 0),
    part("layers.1.q", 1),
    part("layers.1.up", 1),
  ];
  // Norms of 3 and 3 in one layer, 5 and 0 in the other, which has the larger one as a whole.
  const gradSquare = { "layers.0.q": [9], "layers.0.up": [9], "layers.1.q": [25], "layers.1.up": [0] };
  for (const share of [0.1, 0.5, 0.9]) {
    const policy = gradientProbe({ steps: 1, share }), start = policy.init(parts, { steps: 9 });
    const chosen = policy.next(start, lookOf({ gradSquare }, [1]));
    assertEquals(policy.frozen(chosen), ["layers.1.q", "layers.1.up"], `${share}`);
  }
});

Deno.test("gradientProbe trains what lies outside of the layers, and waits for readings", () => {
  const sets = frozenSets(gradientProbe({ steps: 1, share: 0.5 }), randomLook(3));
  assertEquals(sets[1].filter((path) => !path.startsWith("layers.")), []);
  assertEquals(sets[1].length, 3);
  const policy = gradientProbe({ steps: 1 }), start = policy.init(LAYERS, { steps: 9 });
  assertEquals(policy.frozen(policy.next(start, lookOf({}, [1, 2, 3]))), []);
});

Deno.test("adaGradSelect explores by gradients at first, and then trains what it chose most", () => {
  const policy = adaGradSelect({ every: 1, share: 0.25, explore: 0.2, seed: 1 });
  const steps = Array.from({ length: 200 }, (_, i) => i + 1), start = policy.init(LAYERS, { steps: 200 });
  const first = policy.next(start, squares([0, 9, 1, 2, 3, 8, 4, 1], [1]));
  assertEquals(activeAt(policy, first), [1, 5]);
  const counts = Array(8).fill(0);
  let state = start;
  for (const step of steps) {
    state = policy.next(state, squares([0, 9, 1, 2, 3, 8, 4, 1], [step]));
    if (step > 40) { for (const n of activeAt(policy, state)) counts[n]++; }
  }
  assertEquals(counts.reduce((sum, count) => sum + count, 0), 2 * 160);
  const others = counts.filter((_, n) => n !== 1 && n !== 5);
  assert(counts[1] + counts[5] > 160 && others.every((count) => count < 60), `${counts}`);
});

Deno.test("adaGradSelect measures frozen blocks while it explores, and only then", () => {
  const policy = adaGradSelect({ every: 2, share: 0.25, explore: 0.5 });
  let state = policy.init(LAYERS, { steps: 20 });
  for (let step = 1; step <= 20; step++) {
    state = policy.next(state, squares([1, 2, 3, 4, 5, 6, 7, 8], [step]));
    const frozen = policy.frozen(state), probed = policy.probed!(state);
    assertEquals(probed, step < 10 ? frozen : [], `step ${step}`);
  }
});

Deno.test("adaGradSelect chooses the same with the same seed, other blocks with another, and keeps what is always active", () => {
  const chosen = (options: Partial<AdaGradSelectOptions>) =>
    String(frozenSets(adaGradSelect({ every: 1, share: 0.25, explore: 0, ...options }), randomLook(1)));
  assertEquals(chosen({ seed: 1 }), chosen({ seed: 1 }));
  assert(chosen({ seed: 1 }) !== chosen({ seed: 2 }));
  assert(!chosen({ always: "lm_head" }).includes("lm_head") && chosen({}).includes("lm_head"));
});

Deno.test("what chooses layers refuses options out of range", () => {
  assertThrows(
    () => gradientProbe({ steps: 0 }),
    InputError,
    `"steps" must be a whole number above 0: got 0`,
  );
  assertThrows(() => gradientProbe({ share: 0 }), InputError, `"share" must be above 0 and at most 1: got 0`);
  for (
    const [name, value] of [["every", 0], ["share", 0], ["explore", 2], ["epsilon", -1], [
      "delta",
      0.5,
    ]] as const
  ) {
    const make = () => adaGradSelect({ every: 1, [name]: value });
    assertThrows(make, InputError, `Cannot select blocks as "${name}" must be`);
  }
});

Deno.test("shares of a Dirichlet distribution have its means and its variances", () => {
  const concentrations = [1, 2, 7], sum = 10, draws = 4000;
  const means = [0, 0, 0], squares = [0, 0, 0];
  for (let draw = 0; draw < draws; draw++) {
    randomShares(concentrations, randomStream({ seed: 3, draw })).forEach((share, i) => {
      means[i] += share / draws;
      squares[i] += share ** 2 / draws;
    });
  }
  concentrations.forEach((a, i) => {
    const variance = a * (sum - a) / (sum ** 2 * (sum + 1));
    assertAlmostEquals(means[i], a / sum, 0.01);
    assertAlmostEquals(squares[i] - means[i] ** 2, variance, 0.1 * variance);
  });
});
