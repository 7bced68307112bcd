/** Policies that need no threshold: autoTau, diminishingReturns, auto. */

import { InputError } from "@firn/train";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { auto, autoTau, bottomFreeze, diminishingReturns, gradES } from "../../policies/mod.ts";
import { component, COMPONENTS, ends, lookOf } from "./looks.ts";

const PARTS = ["a", "b", "c", "d"].map((name) =>
  component(`layers.0.${name}`, { layer: 0, kind: "linear", size: 4 })
);

/** Readings of `gradNorm` from a function of component and step. */
function readings(value: (part: number, step: number) => number, steps: readonly number[]) {
  const gradNorm = Object.fromEntries(
    PARTS.map(({ path }, i) => [path, steps.map((step) => value(i, step))]),
  );
  return lookOf({ gradNorm }, steps);
}

const STEPS = Array.from({ length: 100 }, (_, i) => i + 1);

Deno.test("gradES without a threshold freezes the smaller half after the grace period, the rest when it shrinks, and ends", () => {
  const policy = gradES({ alpha: 0.5 });
  const start = policy.init(PARTS, { steps: 100 });
  const until = (last: number) =>
    policy.next(start, readings((i, step) => (i + 1) * (step > 80 ? 0.1 : 1), STEPS.slice(0, last)));
  assertEquals([50, 51, 80].map((last) => policy.frozen(until(last)).length), [0, 2, 2]);
  assertEquals(policy.frozen(until(51)), ["layers.0.a", "layers.0.b"]);
  assertEquals([80, 100].map((last) => ends(policy, until(last))), [false, true]);
  assertEquals(policy.reason!(until(51), "layers.0.a"), {
    signal: "gradNorm",
    value: 1,
    threshold: 2.5,
    rule: "sticky(autoTau(gradNorm, alpha 0.5, quantile 0.5, window 0.05))".slice(7, -1),
  });
});

Deno.test("autoTau finds the same sets whatever the unit of the readings", () => {
  const noisy = (i: number, step: number) => (i + 1) * (1 + 0.5 * Math.sin(7 * step + i)) / Math.sqrt(step);
  const sets = (scale: number) => {
    const policy = autoTau("gradNorm", { alpha: 0.3 });
    let state = policy.init(PARTS, { steps: 100 });
    return STEPS.map((step) =>
      policy.frozen(state = policy.next(state, readings((i, s) => scale * noisy(i, s), [step]))).length
    );
  };
  assertEquals(sets(1024), sets(1));
  assert(new Set(sets(1)).size > 1);
});

Deno.test("autoTau is not moved by one small reading", () => {
  const policy = autoTau("gradNorm", { alpha: 0.5 }), start = policy.init(PARTS, { steps: 100 });
  const dip = (step: number, i: number) => step === 70 && i === 3 ? 0 : i + 1;
  const state = policy.next(start, readings((i, step) => dip(step, i), STEPS.slice(0, 70)));
  assertEquals(policy.frozen(state), ["layers.0.a", "layers.0.b"]);
});

Deno.test("autoTau takes its threshold from the first readings, when the grace period had none", () => {
  const policy = autoTau("gradNorm"), start = policy.init(PARTS, { steps: 100 });
  const nothing = policy.next(start, lookOf({}, STEPS.slice(0, 60)));
  assertEquals(policy.frozen(nothing), []);
  const measured = policy.next(nothing, readings((i) => i + 1, [61, 62]));
  assertEquals(policy.frozen(measured), ["layers.0.a", "layers.0.b"]);
});

const cosine = (step: number, steps: number) => (1 + Math.cos(Math.PI * step / steps)) / 2;

/** The step after which a policy ends training, by a benefit of each step that falls with the learning rate. */
function endOf(
  policy: ReturnType<typeof diminishingReturns>,
  rate: (step: number) => number,
  steps = 200,
): number {
  let state = policy.init(COMPONENTS, { steps });
  for (let step = 1; step <= steps; step++) {
    const benefit = Object.fromEntries(COMPONENTS.map(({ path, size }) => [path, [size * rate(step)]]));
    state = policy.next(state, lookOf({ benefit }, [step], [rate(step)]));
    if (ends(policy, state)) return step;
  }
  return steps;
}

Deno.test("diminishingReturns cuts the tail of a cosine, less of a line, and nothing at a constant rate", () => {
  const policy = diminishingReturns();
  assertEquals(endOf(policy, (step) => cosine(step, 200)), 160);
  assertEquals(endOf(policy, (step) => 1 - step / 200), 171);
  assertEquals(endOf(policy, () => 1), 191);
  assertEquals(endOf(diminishingReturns({ share: 0.01 }), (step) => cosine(step, 200)), 178);
});

Deno.test("diminishingReturns waits for alpha, and ends once for all", () => {
  const gone = (step: number) => step > 20 ? 0 : 1;
  assertEquals(endOf(diminishingReturns({ alpha: 0.75 }), gone), 150);
  // Nothing is gained where a warm-up begins at a rate of 0.
  assertEquals(endOf(diminishingReturns({ alpha: 0 }), (step) => step === 1 ? 0 : cosine(step, 200)), 160);
  const policy = diminishingReturns({ alpha: 0.1 }), start = policy.init(COMPONENTS, { steps: 10 });
  const look = (steps: readonly number[], value: number) =>
    lookOf({ benefit: { lm_head: steps.map(() => value) } }, steps);
  const ended = policy.next(policy.next(start, look([1, 2], 1)), look([3, 4, 5], 0));
  assertEquals([ends(policy, ended), ends(policy, policy.next(ended, look([6], 9)))], [true, true]);
});

Deno.test("auto freezes the lower half whatever it reads, and ends where a cosine leaves little to gain", () => {
  const policy = auto(), rate = (step: number) => cosine(step, 200);
  const look = lookOf({ benefit: Object.fromEntries(COMPONENTS.map(({ path }) => [path, [1]])) }, [1]);
  const lower = bottomFreeze(0.5).init(COMPONENTS, { steps: 200 });
  assertEquals(
    policy.frozen(policy.next(policy.init(COMPONENTS, { steps: 200 }), look)),
    bottomFreeze(0.5).frozen(lower),
  );
  assertEquals([endOf(policy, rate), endOf(auto({ share: 0.01 }), rate)], [160, 178]);
  assertThrows(() => auto({ layers: 0 }), InputError, "bottomFreeze(0)");
});

Deno.test("what finds its own threshold refuses options out of range", () => {
  for (const [name, value] of [["alpha", 2], ["quantile", -1], ["window", 0]] as const) {
    assertThrows(() => autoTau("gradNorm", { [name]: value }), InputError, `"${name}" must be`);
  }
  for (const [name, value] of [["alpha", -1], ["share", 0], ["window", 2]] as const) {
    assertThrows(() => diminishingReturns({ [name]: value }), InputError, `"${name}" must be`);
  }
  const look = lookOf({ gradNorm: { lm_head: [1] } }, [1], [NaN]),
    policy = autoTau("gradNorm", { normalise: "lr*size" });
  assertThrows(() => policy.next(policy.init(COMPONENTS, { steps: 9 }), look), InputError, `"lr*size"`);
});
