import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { normalValues } from "../../kernels/random.ts";
import { type FreezePolicy, signalToNoise, snr } from "../../policies/mod.ts";
import { component, lookOf } from "./looks.ts";

const ELEMENTS = 2048, BETA1 = 0.9, BETA2 = 0.999;

interface Sums {
  readonly first: number[];
  readonly second: number[];
}

/** Sums of Adam's moments over steps whose gradients are a mean of one sign an element and normal noise. */
function momentsOf(signal: (step: number) => number, { steps, seed }: { steps: number; seed: number }): Sums {
  const m = new Float64Array(ELEMENTS), v = new Float64Array(ELEMENTS);
  const first: number[] = [], second: number[] = [];
  for (let step = 1; step <= steps; step++) {
    const noise = normalValues({ size: ELEMENTS, key: [seed, step] });
    for (let i = 0; i < ELEMENTS; i++) {
      const g = signal(step) * (i % 2 === 0 ? 1 : -1) + noise[i];
      m[i] = BETA1 * m[i] + (1 - BETA1) * g;
      v[i] = BETA2 * v[i] + (1 - BETA2) * g * g;
    }
    first.push(m.reduce((sum, x) => sum + x * x, 0));
    second.push(v.reduce((sum, x) => sum + x, 0));
  }
  return { first, second };
}

for (const ratio of [0, 0.01, 0.09, 1, 9]) {
  Deno.test(`signalToNoise finds a ratio of ${ratio} in the moments of Adam, early and late`, () => {
    const { first, second } = momentsOf(() => Math.sqrt(ratio), { steps: 300, seed: 1 });
    for (const steps of [20, 300]) {
      const seen = signalToNoise({ first: first[steps - 1], second: second[steps - 1], steps });
      // The sum over 2048 elements strays by about 4 % of the noise's share in it.
      assertAlmostEquals(seen, ratio, 0.012 + 0.08 * ratio, `after ${steps} steps`);
    }
  });
}

const NAMES = ["noise", "steady", "fading"] as const;
const COMPONENTS = NAMES.map((name) => component(name, { layer: 0, kind: "linear", size: ELEMENTS }));
const STEPS = 400;
const STREAMS: Record<typeof NAMES[number], Sums> = {
  noise: momentsOf(() => 0, { steps: STEPS, seed: 2 }),
  steady: momentsOf(() => 0.5, { steps: STEPS, seed: 3 }),
  fading: momentsOf((step) => step <= 120 ? 1 : 0, { steps: STEPS, seed: 4 }),
};

/** Steps at which each component is frozen first; null for never. */
function freezeSteps(policy: FreezePolicy, scale = 1): (number | null)[] {
  let state = policy.init(COMPONENTS, { steps: STEPS });
  const seen = new Map<string, number>();
  for (let i = 0; i < STEPS; i++) {
    const of = (part: keyof Sums): Record<string, number[]> =>
      Object.fromEntries(NAMES.map((name) => [name, [STREAMS[name][part][i] * scale]]));
    state = policy.next(state, lookOf({ firstMoment: of("first"), secondMoment: of("second") }, [i + 1]));
    for (const path of policy.frozen(state)) if (!seen.has(path)) seen.set(path, i + 1);
  }
  return NAMES.map((name) => seen.get(name) ?? null);
}

Deno.test("snr freezes the component whose signal fades, not the steady one, and not what was always noise", () => {
  const [noise, steady, fading] = freezeSteps(snr());
  assertEquals([noise, steady], [null, null]);
  assert(fading !== null && fading > 140 && fading < 260, `at step ${fading}`);
});

Deno.test("snr decides the same for gradients of any size", () => {
  const plain = freezeSteps(snr());
  for (const scale of [1e-6, 4, 1e6]) assertEquals(freezeSteps(snr(), scale), plain);
});

Deno.test("snr begins anew when a component was not measured, as its moments do", () => {
  const policy = snr({ alpha: 0, patience: 1, weight: 1, components: "steady" });
  const { first, second } = STREAMS.steady;
  /** The ratio after some readings, of which the state is the only witness. */
  const ratioAfter = (readings: readonly (readonly [number, number])[]): number => {
    let state = policy.init(COMPONENTS, { steps: STEPS });
    for (const [m, v] of readings) {
      state = policy.next(
        state,
        lookOf({ firstMoment: { steady: [m] }, secondMoment: { steady: [v] } }, [1]),
      );
    }
    return Number(/"ratio":([-\d.e]+)/.exec(JSON.stringify(state))![1]);
  };
  const some = (count: number): [number, number][] =>
    Array.from({ length: count }, (_, i) => [first[i], second[i]]);
  assertEquals(ratioAfter([...some(60), [NaN, NaN], ...some(30)]), ratioAfter(some(30)));
});

Deno.test("snr refuses shares, weights and decays out of their range by name", () => {
  assertThrows(() => snr({ share: 0 }), RangeError, '"share"');
  assertThrows(() => snr({ weight: 1.5 }), RangeError, '"weight"');
  assertThrows(() => snr({ beta1: 1 }), RangeError, '"beta1"');
  assertThrows(() => snr({ beta2: -1 }), RangeError, '"beta2"');
});
