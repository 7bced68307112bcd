import { InputError } from "@firn/train";
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { normalValues } from "../../kernels/random.ts";
import { type FreezePolicy, type Json, signalToNoise, snr } from "../../policies/mod.ts";
import type { Component } from "../../core/policy.ts";
import { component, ends, lookOf } from "./looks.ts";

const ELEMENTS = 2048, BETA1 = 0.9, BETA2 = 0.999;

interface Sums {
  readonly first: number[];
  readonly second: number[];
  /** `sum |g u|` of Adam's step u at the rate 1. */
  readonly benefit: number[];
}

interface Stream {
  /** Mean of an element at a step, of one sign an element. */
  readonly signal: (step: number) => number;
  /** Standard deviation of the noise; 1 when absent. */
  readonly noise?: (step: number) => number;
  readonly steps: number;
  readonly seed: number;
}

/** Sums of Adam's moments in float32, as training reads them, over steps of random gradients. */
function momentsOf({ signal, noise = () => 1, steps, seed }: Stream): Sums {
  const m = new Float32Array(ELEMENTS), v = new Float32Array(ELEMENTS);
  const first: number[] = [], second: number[] = [], benefit: number[] = [];
  for (let step = 1; step <= steps; step++) {
    const normal = normalValues({ size: ELEMENTS, key: [seed, step] });
    let gained = 0;
    for (let i = 0; i < ELEMENTS; i++) {
      const g = signal(step) * (i % 2 === 0 ? 1 : -1) + noise(step) * normal[i];
      m[i] = BETA1 * m[i] + (1 - BETA1) * g;
      v[i] = BETA2 * v[i] + (1 - BETA2) * g * g;
      gained += Math.abs(g * m[i] / (1 - BETA1 ** step)) / Math.sqrt(v[i] / (1 - BETA2 ** step));
    }
    benefit.push(Math.fround(gained));
    first.push(Math.fround(m.reduce((sum, x) => sum + x * x, 0)));
    second.push(Math.fround(v.reduce((sum, x) => sum + x, 0)));
  }
  return { first, second, benefit };
}

/** The ratio after each step, by averages of the squares that the sums of v differ by. */
function ratiosOf({ first, second }: Sums): number[] {
  let square = 0;
  return first.map((m, i) => {
    const squares = (second[i] - BETA2 * (second[i - 1] ?? 0)) / (1 - BETA2);
    square = BETA1 ** 2 * square + (1 - BETA1 ** 2) * squares;
    return signalToNoise({ first: m, square });
  });
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

for (const ratio of [0, 0.01, 0.09, 1, 9]) {
  Deno.test(`signalToNoise finds a ratio of ${ratio} in the moments of Adam`, () => {
    const ratios = ratiosOf(momentsOf({ signal: () => Math.sqrt(ratio), steps: 300, seed: 1 }));
    for (const from of [50, 200]) {
      // A single step strays by about 4 % of the noise's share in it; the mean of 100 that overlap by less.
      assertAlmostEquals(
        meanOf(ratios.slice(from, from + 100)),
        ratio,
        0.004 + 0.03 * ratio,
        `after ${from} steps`,
      );
    }
  });
}

Deno.test("signalToNoise finds no signal in noise at the first steps, nor while it grows or fades", () => {
  for (const noise of [(step: number) => 1.03 ** step, (step: number) => 0.97 ** step]) {
    const ratios = ratiosOf(momentsOf({ signal: () => 0, noise, steps: 120, seed: 6 }));
    // Ten single steps stray more than a hundred.
    assertAlmostEquals(meanOf(ratios.slice(0, 10)), 0, 0.015);
    assertAlmostEquals(meanOf(ratios.slice(20)), 0, 0.005);
  }
});

Deno.test("signalToNoise finds the ratio of a gradient that fades as a whole", () => {
  const fade = (step: number): number => 0.99 ** step;
  const ratios = ratiosOf(momentsOf({ signal: fade, noise: fade, steps: 300, seed: 7 }));
  // The signal's older part weighs more: (0.1 / (1 - 0.9 / 0.99))^2 / (0.19 / (1 - 0.81 / 0.98)) = 1.1 times, and so 1.2.
  assertAlmostEquals(meanOf(ratios.slice(100, 200)), 1.2, 0.1);
});

Deno.test("signalToNoise is at most 94, also for a mean that falls without noise", () => {
  const ratios = ratiosOf(momentsOf({ signal: (step) => 0.99 ** step, noise: () => 0, steps: 60, seed: 8 }));
  ratios.slice(50).forEach((ratio) => assertAlmostEquals(ratio, (0.99 - 1 / 19) / 0.01, 1e-9));
});

const NAMES = ["noise", "steady", "fading", "shrinking", "strong", "collapsed"] as const;
const COMPONENTS = NAMES.map((name) => component(name, { layer: 0, kind: "linear", size: ELEMENTS }));
const STEPS = 400;
const STREAMS: Record<typeof NAMES[number], Sums> = {
  noise: momentsOf({ signal: () => 0, steps: STEPS, seed: 2 }),
  steady: momentsOf({ signal: () => 0.5, steps: STEPS, seed: 3 }),
  fading: momentsOf({ signal: (step) => step <= 120 ? 2 : 0, steps: STEPS, seed: 4 }),
  // Signal and noise alike: a twentieth after 300 steps, in which v has lost a quarter.
  shrinking: momentsOf({
    signal: (step) => 0.99 ** step,
    noise: (step) => 0.99 ** step,
    steps: STEPS,
    seed: 5,
  }),
  // To a two thousandth at once: what float32 tells of the squares, as differences of sums of v, is nothing.
  collapsed: momentsOf({
    signal: (step) => step <= 160 ? 1 : 0.0005,
    noise: (step) => step <= 160 ? 1 : 0.0005,
    steps: STEPS,
    seed: 10,
  }),
  // From 25 to 0.49: far from noise.
  strong: momentsOf({ signal: (step) => step <= 160 ? 5 : 0.7, steps: STEPS, seed: 9 }),
};

const cosineRate = (step: number): number => (1 + Math.cos(Math.PI * step / STEPS)) / 2;
const constantRate = (): number => 1;

interface Conditions {
  /** Factor of the gradients. */
  readonly scale?: number;
  readonly rate?: (step: number) => number;
  /** The loss for gradients of the factor 1; so high when absent that no step could change much of it. */
  readonly loss?: number;
  /** What the gradient of a weight costs; forward and the gradient of the input cost 1 each. Null: no cost is known. */
  readonly dW?: number | null;
}

/** Steps at which each component is frozen first, null for never, and that at which training ends. */
function freezeSteps(
  policy: FreezePolicy,
  { scale = 1, rate = cosineRate, loss = 1e9, dW = 10 }: Conditions = {},
): { readonly at: (number | null)[]; readonly end: number | null } {
  const components = COMPONENTS.map((c) =>
    dW === null ? c : { ...c, cost: { forward: 1, dX: 1, dW, depth: 0 } }
  );
  let state = policy.init(components, { steps: STEPS }), end: number | null = null;
  const seen = new Map<string, number>();
  for (let i = 0; i < STEPS; i++) {
    const of = (part: keyof Sums, factor: number): Record<string, number[]> =>
      Object.fromEntries(NAMES.map((name) => [name, [STREAMS[name][part][i] * factor]]));
    const readings = {
      firstMoment: of("first", scale ** 2),
      secondMoment: of("second", scale ** 2),
      benefit: of("benefit", scale * rate(i + 1)),
    };
    state = policy.next(state, { ...lookOf(readings, [i + 1]), loss: [scale * loss] });
    for (const path of policy.frozen(state)) if (!seen.has(path)) seen.set(path, i + 1);
    if (end === null && ends(policy, state)) end = i + 1;
  }
  return { at: NAMES.map((name) => seen.get(name) ?? null), end };
}

Deno.test("snr freezes what is noise when the rate leaves its steps little to gain, sooner where it once gained much", () => {
  const { at: [noise, , fading], end } = freezeSteps(snr());
  // A tenth of the rate is left at 0.8 of the steps; averages, patience and the next decision come up to 50 steps later.
  assert(noise !== null && noise > 0.78 * STEPS && noise < 0.92 * STEPS, `noise at step ${noise}`);
  assert(fading !== null && fading > 150 && fading < noise - 40, `fading at step ${fading}`);
  assertEquals(end, null);
});

Deno.test("snr keeps what has a signal, however little its steps gain", () => {
  const { at: [, steady, , shrinking, strong, collapsed] } = freezeSteps(snr());
  assertEquals([steady, shrinking, strong, collapsed], [null, null, null, null]);
});

Deno.test("snr keeps noise whose steps gain as much as they did", () => {
  const { at: [noise, steady] } = freezeSteps(snr(), { rate: constantRate });
  assertEquals([noise, steady], [null, null]);
});

Deno.test("snr freezes nothing in the grace period, and does not count what comes before it watches", () => {
  const { at: [, , late] } = freezeSteps(snr({ alpha: 0.8 }));
  assertEquals(late, 0.8 * STEPS);
  // What it gained is over before it is watched: then it is as noise is.
  const { at: [noise, , unseen] } = freezeSteps(snr({ watch: 0.5 }));
  assert(Math.abs(unseen! - noise!) <= 40, `at step ${unseen}, noise at step ${noise}`);
});

Deno.test("snr freezes no more than could still change a share of the loss, and the rest when fewer steps are left", () => {
  const components = ({ path }: Component): boolean => ["noise", "fading"].includes(path);
  const policy = (left: number): FreezePolicy => snr({ components, left });
  const { at: [early, , fading] } = freezeSteps(policy(0.5));
  // What an element of noise still gains in the last tenth of the schedule: 0.8 at the rate 1, a twentieth of it on average.
  const loss = 0.8 * ELEMENTS * 0.1 * STEPS / 20;
  const { at: [noise, , late] } = freezeSteps(policy(0.5), { loss });
  assert(noise! > early! && noise! >= 0.9 * STEPS, `noise at step ${noise}, ${early} without a limit`);
  assert(late! > fading!, `fading at step ${late}, ${fading} without a limit`);
  assertEquals(
    freezeSteps(policy(0.05), { loss: loss / 10 }).at.filter((step) => step !== null && step < 0.95 * STEPS),
    [],
  );
});

Deno.test("snr changes the frozen set once in a window at most", () => {
  for (const window of [0.05, 0.1]) {
    const { at } = freezeSteps(snr({ window }));
    assert(at.every((step) => step === null || step % (window * STEPS) === 0), `${at}`);
  }
});

Deno.test("snr waits for a change that saves a hundredth of what all steps cost", () => {
  // One of six, in a fifth of the steps at most: 1 / 30 of a step's dW, which is a tenth of the step.
  assertEquals(freezeSteps(snr(), { dW: 0.2 }).at[0], null);
  const { at: [noise, , fading] } = freezeSteps(snr(), { dW: 0.6 });
  const { at: [free, , soon] } = freezeSteps(snr());
  assertEquals([noise, fading, free! < STEPS], [null, soon, true]);
});

Deno.test("snr reckons by sizes where components have no cost", () => {
  const sized = freezeSteps(snr(), { dW: null });
  assertEquals(sized, freezeSteps(snr(), { dW: 1 }));
  assert(sized.at[2] !== null && sized.at[0] === null, `${sized.at}`);
});

Deno.test("snr ends training when all of its components are frozen, unless told not to", () => {
  const components = "noise";
  const { at: [noise], end } = freezeSteps(snr({ components }));
  assertEquals(end, noise);
  assertEquals(snr({ components, stop: false }).name.includes("untilFrozen"), false);
  assertEquals(freezeSteps(snr({ components, stop: false })).end, null);
});

Deno.test("snr says which benefit it compared with what", () => {
  const policy = snr({ alpha: 0, watch: 0, components: "fading" });
  let state = policy.init(COMPONENTS, { steps: STEPS });
  const { first, second, benefit } = STREAMS.fading;
  for (let i = 0; i < STEPS && policy.frozen(state).length === 0; i++) {
    const readings = {
      firstMoment: { fading: [first[i]] },
      secondMoment: { fading: [second[i]] },
      benefit: { fading: [benefit[i] * cosineRate(i + 1)] },
    };
    state = policy.next(state, { ...lookOf(readings, [i + 1]), loss: [1e9] });
  }
  const { signal, value, threshold, rule } = policy.reason!(state, "fading")!;
  assertEquals([signal, rule], ["benefit", "noisy(0.1, left 0.5, window 0.05, alpha 0)"]);
  // A mean of 2 and noise of 1 gain about 0.8 * 2 an element.
  assert(threshold! > 0.1 * ELEMENTS && threshold! < 0.25 * ELEMENTS, `${threshold}`);
  assert(value! < threshold!);
});

Deno.test("snr decides the same for gradients of any size, and for any factor of the rate", () => {
  const plain = freezeSteps(snr());
  for (const scale of [1e-3, 4, 1e3]) assertEquals(freezeSteps(snr(), { scale }), plain);
  assertEquals(freezeSteps(snr(), { rate: (step) => 2 * cosineRate(step) }), plain);
});

Deno.test("snr begins anew when a component was not measured, as its moments do", () => {
  const policy = snr({ alpha: 0, watch: 0, components: "steady" });
  const { first, second, benefit } = STREAMS.steady;
  /** The ratio after some readings, of which the state is the only witness. */
  const ratioAfter = (readings: readonly (readonly [number, number, number])[]): number => {
    let state = policy.init(COMPONENTS, { steps: STEPS });
    for (const [m, v, b] of readings) {
      const now = { firstMoment: { steady: [m] }, secondMoment: { steady: [v] }, benefit: { steady: [b] } };
      state = policy.next(state, lookOf(now, [1]));
    }
    return Number(/"ratio":\{"mean":([-\d.e]+)/.exec(JSON.stringify(state))![1]);
  };
  const some = (count: number): [number, number, number][] =>
    Array.from({ length: count }, (_, i) => [first[i], second[i], benefit[i]]);
  assertEquals(ratioAfter([...some(60), [NaN, NaN, NaN], ...some(30)]), ratioAfter(some(30)));
});

Deno.test("snr goes on over steps that were skipped, as the moments do", () => {
  const policy = snr({ alpha: 0, watch: 0, components: "fading" });
  const run = (skipped: readonly number[]): Json => {
    let state = policy.init(COMPONENTS, { steps: STEPS });
    const { first, second, benefit } = STREAMS.fading;
    for (let step = 1, i = 0; i < 60; step++) {
      const taken = !skipped.includes(step), at = taken ? i++ : -1;
      const readings = {
        firstMoment: { fading: [first[at] ?? NaN] },
        secondMoment: { fading: [second[at] ?? NaN] },
        benefit: { fading: [benefit[at] ?? NaN] },
      };
      const look = { ...lookOf(readings, [step]), loss: [1 / (i + 1)] };
      state = policy.next(state, { ...look, skipped: taken ? [] : [step] });
    }
    return state;
  };
  assertEquals(run([1, 30, 31]), run([]));
});

Deno.test("snr takes a reading that is not finite for none, so that its state is JSON", () => {
  const policy = snr({ alpha: 0, watch: 0, components: "steady" });
  const { first, second, benefit } = STREAMS.steady, last = 40;
  const names = ["firstMoment", "secondMoment", "benefit"] as const;
  for (const infinite of names) {
    let state = policy.init(COMPONENTS, { steps: STEPS });
    for (let i = 0; i <= last; i++) {
      const values = { firstMoment: first[i], secondMoment: second[i], benefit: benefit[i] };
      if (i === last) values[infinite] = Infinity;
      const readings = Object.fromEntries(names.map((name) => [name, { steady: [values[name]] }]));
      state = policy.next(state, lookOf(readings, [i + 1]));
      assertEquals(JSON.parse(JSON.stringify(state)), state, infinite);
    }
    assert(JSON.stringify(state).includes(`"ratio":null`), infinite);
  }
});

Deno.test("snr refuses shares, weights and decays out of their range by name", () => {
  assertThrows(() => snr({ share: 0 }), InputError, '"share"');
  assertThrows(() => snr({ left: 0 }), InputError, '"left" must be a number above 0: got 0');
  assertThrows(() => snr({ window: 1.5 }), InputError, '"window" must be above 0 and at most 1: got 1.5');
  assertThrows(() => snr({ beta1: 1 }), InputError, '"beta1" must be above 0 and below 1: got 1');
  assertThrows(() => snr({ beta2: -1 }), InputError, '"beta2" must be above 0 and below 1: got -1');
  assertThrows(() => snr({ watch: 2 }), InputError, '"watch" must be 0 to 1: got 2');
  assertThrows(() => snr({ alpha: NaN }), InputError, '"alpha" must be 0 to 1: got NaN');
});

Deno.test("snr's name prints the decays where they are not Adam's usual ones", () => {
  assert(snr({ beta1: 0.9, beta2: 0.999 }).name === snr().name && !snr().name.includes("beta"));
  assert(snr({ beta1: 0.8 }).name.includes("alpha 0.25, beta1 0.8)"));
  assert(snr({ beta1: 0.8, beta2: 0.95 }).name.includes("alpha 0.25, beta1 0.8, beta2 0.95)"));
});
