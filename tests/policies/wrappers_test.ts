import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { FreezePolicy } from "../../core/policy.ts";
import {
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
  randomSubset,
  rotate,
  schedule,
  smooth,
  sticky,
  stopAt,
} from "../../policies/mod.ts";
import { component, COMPONENTS, cut, frozenSets, lookOf, PATHS, randomLook, STEPS } from "./looks.ts";

const INNER: readonly FreezePolicy[] = [
  below("gradNorm", 0.3),
  below("gradNorm", 0.7),
  patience(2, below("weightDelta", 0.6)),
  sticky(below("gradDelta", 0.1)),
  hysteresis("gradNorm", { low: 0.3, high: 0.5 }),
  randomSubset({ share: 0.6, every: 2, seed: 9 }),
  rotate({ every: 3, active: 2, order: "shuffled" }),
  prefix({ intervals: 4 }),
];

const LOOKS = [11, 12, 13].map((seed) => randomLook(seed));

const SIZES = new Map(COMPONENTS.map(({ path, size }) => [path, size]));
const TOTAL = sizeOf(PATHS);

function sizeOf(paths: readonly string[]): number {
  return paths.reduce((sum, path) => sum + SIZES.get(path)!, 0);
}

function subset(some: readonly string[], all: readonly string[]): boolean {
  return some.every((path) => all.includes(path));
}

/** Runs a law on every policy and look. */
function forAll(law: (sets: (policy: FreezePolicy) => string[][], policy: FreezePolicy) => void): void {
  for (const look of LOOKS) for (const policy of INNER) law((p) => frozenSets(p, look), policy);
}

/** Freezes nothing and keeps what it read of `gradNorm` of the head. */
const recorder = definePolicy({
  name: "recorder",
  signals: ["gradNorm"],
  init: () => [] as (number | null)[],
  next(seen, { read }) {
    const reading = read("gradNorm", "lm_head");
    return [...seen, Number.isNaN(reading) ? null : reading];
  },
  frozen: () => [],
});

/** What the recorder sees through `smooth`, the readings delivered in looks of some steps. */
function smoothed(weight: number, readings: readonly number[], steps = readings.length): (number | null)[] {
  const policy = smooth(weight, recorder);
  const look = lookOf({ gradNorm: { lm_head: readings } }, readings.map((_, i) => i + 1));
  let state = policy.init(COMPONENTS, { steps: STEPS });
  for (let i = 0; i < readings.length; i += steps) state = policy.next(state, cut(look, i, i + steps));
  return (state as unknown as { inner: (number | null)[] }).inner;
}

Deno.test("smooth of weight 1, every of 1, atMost of 1 are the policy itself", () => {
  forAll((sets, policy) => {
    assertEquals(sets(smooth(1, policy)), sets(policy));
    assertEquals(sets(every(1, policy)), sets(policy));
    assertEquals(sets(atMost(1, policy)), sets(policy));
  });
});

Deno.test("smooth shows the bias-corrected average, computed by hand", () => {
  // Weights 0.5: 8; (0.25 * 8 + 0.5 * 2) / 0.75; (0.125 * 8 + 0.25 * 2 + 0.5 * 5) / 0.875
  const expected = [8, 4, 4 / 0.875];
  smoothed(0.5, [8, 2, 5]).forEach((value, i) => assertAlmostEquals(value!, expected[i], 1e-12));
});

Deno.test("smooth shows absent readings as absent and goes on with the average after them", () => {
  const gap = smoothed(0.3, [8, 2, NaN, NaN, 5]);
  const [first, second, third] = smoothed(0.3, [8, 2, 5]);
  assertEquals(gap, [first, second, null, null, third]);
});

Deno.test("smooth keeps an infinite reading out of the average, which stays JSON", () => {
  assertEquals(smoothed(0.3, [8, Infinity, 8])[2], 8);
});

Deno.test("smooth counts the reading of every step, however many a look brings", () => {
  const readings = [8, 2, NaN, 5, 1, 9];
  for (const steps of [1, 2, 4]) assertEquals(smoothed(0.3, readings, steps), smoothed(0.3, readings));
});

Deno.test("smooth lets a policy sleep through one jump", () => {
  const gradNorm = { lm_head: [1, 1, 1, 0.2, 1, 0.2, 0.2, 0.2, 0.2] };
  const look = lookOf({ gradNorm }, gradNorm.lm_head.map((_, i) => i + 1));
  const first = (policy: FreezePolicy) => frozenSets(policy, look).findIndex((set) => set.length > 0);
  assertEquals(first(below("gradNorm", 0.5)), 4);
  // The averages of the last six: 0.68, 0.80, 0.59, 0.47, 0.38, 0.32
  assertEquals(first(smooth(0.3, below("gradNorm", 0.5))), 7);
});

Deno.test("hysteresis freezes below low and thaws at high, computed by hand", () => {
  const gradNorm = { lm_head: [0.5, 0.3, 0.2, 0.4, NaN, 0.59, 0.6, 0.5, 0.3, 0.1] };
  const look = lookOf({ gradNorm }, gradNorm.lm_head.map((_, i) => i + 1));
  const sets = frozenSets(hysteresis("gradNorm", { low: 0.3, high: 0.6 }), look);
  assertEquals(sets.map((set) => set.length), [0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1]);
});

Deno.test("hysteresis with one threshold twice is below where everything is measured", () => {
  const full = Object.fromEntries(
    PATHS.map((path, i) => [path, LOOKS[0].steps.map((s) => (s * 7 + i) % 11)]),
  );
  const look = lookOf({ gradNorm: full }, LOOKS[0].steps);
  const once = frozenSets(below("gradNorm", 5), look);
  assertEquals(frozenSets(hysteresis("gradNorm", { low: 5, high: 5 }), look), once);
});

Deno.test("every changes the set only where n divides the step, and to what the policy has there", () => {
  forAll((sets, policy) => {
    const inner = sets(policy);
    const expected = inner.map((_, step) => inner[step - step % 3]);
    assertEquals(sets(every(3, policy)), expected);
    assertEquals(sets(every(3, every(3, policy))), expected);
  });
});

Deno.test("atMost freezes nothing that the policy does not, and never more than its share", () => {
  for (const share of [0, 0.1, 0.29, 0.5, 0.77]) {
    forAll((sets, policy) => {
      const inner = sets(policy);
      sets(atMost(share, policy)).forEach((set, i) => {
        assert(subset(set, inner[i]));
        assert(sizeOf(set) <= share * TOTAL);
      });
      sets(atMost(share, policy, { of: "components" })).forEach((set, i) => {
        assert(subset(set, inner[i]));
        assertEquals(set.length, Math.min(inner[i].length, Math.floor(share * PATHS.length)));
      });
    });
  }
});

Deno.test("atMost twice is atMost once, and a smaller share freezes no more components", () => {
  forAll((sets, policy) => {
    const once = sets(atMost(0.4, policy));
    assertEquals(sets(atMost(0.4, atMost(0.4, policy))), once);
    const fewer = sets(atMost(0.3, policy, { of: "components" }));
    sets(atMost(0.6, policy, { of: "components" })).forEach((set, i) => assert(subset(fewer[i], set)));
  });
});

Deno.test("atMost takes what has room from the bottom up", () => {
  const last = (share: number) => frozenSets(atMost(share, stopAt(1)), lookOf({}, [1]))[1];
  // embed_tokens 64; q_proj 16, up_proj 32, input_norm 48 in each of two layers; lm_head 64; of 320.
  assertEquals(last(64 / 320), ["embed_tokens"]);
  assertEquals(last(63 / 320), ["layers.0.q_proj", "layers.0.up_proj"]);
  assertEquals(last(0.4), ["embed_tokens", "layers.0.q_proj", "layers.0.up_proj", "layers.1.q_proj"]);
});

Deno.test("atMost reckons its share in decimal arithmetic", () => {
  const many = Array.from(
    { length: 100 },
    (_, i) => component(`${i}`, { layer: i, kind: "linear", size: 1 }),
  );
  const policy = atMost(0.29, stopAt(1)); // 0.29 * 100 is 28.999999999999996 in binary
  assertEquals(policy.frozen(policy.next(policy.init(many, { steps: 1 }), lookOf({}, [1]))).length, 29);
});

Deno.test("closePrefix never thaws what its policy froze, and twice is once", () => {
  for (const share of [0.2, 0.5, 1]) {
    forAll((sets, policy) => {
      const closed = sets(closePrefix(policy, { share }));
      sets(policy).forEach((set, i) => assert(subset(set, closed[i])));
      assertEquals(sets(closePrefix(closePrefix(policy, { share }), { share })), closed);
    });
  }
});

Deno.test("closePrefix freezes more for a policy that freezes more, and for a smaller share", () => {
  for (const look of LOOKS) {
    const sets = (tau: number, share: number) =>
      frozenSets(closePrefix(below("gradNorm", tau), { share }), look);
    sets(0.3, 0.5).forEach((set, i) => {
      assert(subset(set, sets(0.6, 0.5)[i]));
      assert(subset(set, sets(0.3, 0.2)[i]));
    });
  }
});

Deno.test("closePrefix takes whole layers from the bottom, and what lies below them, as far as they converged", () => {
  const last = (glob: string, share: number) =>
    frozenSets(closePrefix(only(glob, stopAt(1)), { share }), lookOf({}, [1]))[1];
  const layer = (n: number) =>
    PATHS.filter((path) => path.startsWith(n < 0 ? "embed" : `layers.${n}.`)).sort();
  // Both projections are half of the elements of a layer.
  assertEquals(last("layers.0.*_proj", 0.5), [...layer(-1), ...layer(0)]);
  assertEquals(last("layers.0.*_proj", 0.51), ["layers.0.q_proj", "layers.0.up_proj"]);
  assertEquals(last("layers.1.*_proj", 0.5), ["layers.1.q_proj", "layers.1.up_proj"]);
  assertEquals(last("layers.*_proj", 0.5), [...layer(-1), ...layer(0), ...layer(1)]);
  assertEquals(last("embed_tokens", 0.5), ["embed_tokens"]);
  assertEquals(last("l*", 0.5), [...PATHS].sort());
});

Deno.test("keepActive takes away what it names and nothing else, in any order, and twice is once", () => {
  forAll((sets, policy) => {
    const expected = sets(policy).map((set) => set.filter((path) => !/^lm_head$|^layers\.1/.test(path)));
    assertEquals(sets(keepActive("lm_head", keepActive("layers.1.*", policy))), expected);
    assertEquals(sets(keepActive("layers.1.*", keepActive("lm_head", policy))), expected);
    const once = sets(keepActive("lm_head", policy));
    assertEquals(sets(keepActive("lm_head", keepActive("lm_head", policy))), once);
    assertEquals(sets(keepActive("*", policy)).flat(), []);
  });
});

Deno.test("keepActive shows its policy all components, except does not", () => {
  const look = lookOf({}, [1]);
  const turns = rotate({ every: 5, active: 3 });
  // Of the embedding, two layers and the head the last is not active; without the embedding all three are.
  assertEquals(frozenSets(keepActive("embed_tokens", turns), look)[1], ["lm_head"]);
  assertEquals(frozenSets(except("embed_tokens", turns), look)[1], []);
});

Deno.test("the names of wrappers and schedules print what makes them", () => {
  const p = below("gradNorm", 0.3);
  const names: readonly (readonly [FreezePolicy, string])[] = [
    [smooth(0.1, every(5, p)), "smooth(0.1, every(5, below(gradNorm, 0.3)))"],
    [hysteresis("gradNorm", { low: 1, high: 2, normalise: "size" }), "hysteresis(gradNorm/size, 1, 2)"],
    [atMost(0.5, closePrefix(p)), "atMost(0.5 of elements, closePrefix(below(gradNorm, 0.3), 0.9))"],
    [keepActive("lm_head", stopAt(9)), "keepActive(lm_head, stopAt(9))"],
    [schedule({ first: 0.5 }), "schedule(0.5, linear)"],
    [prefix(), "prefix(10 intervals, percentile 50)"],
    [randomSubset({ share: 0.5, every: 10 }), "randomSubset(0.5, every 10, seed 0)"],
    [rotate({ every: 10 }), "rotate(1 every 10, up)"],
    [rotate({ every: 9, order: "random", always: "lm*" }), "rotate(1 every 9, random, seed 0, always lm*)"],
  ];
  for (const [policy, name] of names) assertEquals(policy.name, name);
});
