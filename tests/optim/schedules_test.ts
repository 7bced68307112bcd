import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { constantRate, cosine, InputError, linearRate, type Schedule } from "@firn/train";
import {
  cosineRestarts,
  inverseRootRate,
  oneCycle,
  polynomialRate,
  warmupStableDecay,
} from "@firn/train/optim";

const rates = (schedule: (step: number) => number, steps: readonly number[]): number[] => steps.map(schedule);

Deno.test("constantRate rises in a straight line to the peak and stays there", () => {
  assertEquals(rates(constantRate({ peak: 2, warmup: 4 }), [1, 2, 4, 5, 1000]), [0.5, 1, 2, 2, 2]);
});

Deno.test("constantRate without warm-up has its peak at the first step", () => {
  assertEquals(constantRate({ peak: 3 })(1), 3);
});

Deno.test("linearRate falls in a straight line to the floor at the last step", () => {
  const schedule = linearRate({ peak: 1, warmup: 2, steps: 10, floor: 0.25 });
  assertEquals(rates(schedule, [1, 2, 6, 10]), [0.5, 1, 0.625, 0.25]);
});

Deno.test("cosine is halfway between peak and floor in the middle", () => {
  const schedule = cosine({ peak: 1, warmup: 10, steps: 110, floor: 0.2 });
  assertEquals(schedule(10), 1);
  assertAlmostEquals(schedule(60), 0.6, 1e-12);
  assertAlmostEquals(schedule(110), 0.2, 1e-12);
});

Deno.test("cosine and linearRate stay at the floor after the last step", () => {
  for (const schedule of [cosine, linearRate]) {
    assertAlmostEquals(schedule({ peak: 1, steps: 10, floor: 0.1 })(25), 0.1, 1e-12);
  }
});

Deno.test("schedules whose warm-up fills the run end at the peak", () => {
  assertEquals(rates(cosine({ peak: 1, warmup: 4, steps: 4 }), [2, 4]), [0.5, 1]);
});

/** The runs of schedules.json. */
const AS_TRANSFORMERS = ((): Readonly<Record<string, Schedule>> => {
  const options = { peak: 0.5, warmup: 4, steps: 20 };
  return {
    constant: constantRate(options),
    linear: linearRate(options),
    cosine: cosine(options),
    restarts: cosineRestarts({ ...options, cycles: 3 }),
    polynomial: polynomialRate({ ...options, floor: 0.1, power: 2 }),
    "inverse root": inverseRootRate({ peak: 0.5, warmup: 4 }),
    "inverse root without warm-up": inverseRootRate({ peak: 0.5, timescale: 9 }),
    wsd: warmupStableDecay({ ...options, decay: 6 }),
    "wsd linear": warmupStableDecay({ ...options, decay: 6, shape: "linear" }),
    "wsd root": warmupStableDecay({ ...options, decay: 6, shape: "root" }),
    "one cycle": oneCycle({ peak: 0.5, steps: 20 }),
  };
})();

Deno.test("schedules equal those of transformers and PyTorch at every step", async () => {
  const file = new URL("../fixtures/schedules.json", import.meta.url);
  const expected: Record<string, readonly number[]> = JSON.parse(await Deno.readTextFile(file));
  assertEquals(Object.keys(AS_TRANSFORMERS), Object.keys(expected));
  for (const [name, rates] of Object.entries(expected)) {
    rates.forEach((rate, i) =>
      assertAlmostEquals(AS_TRANSFORMERS[name](i + 1), rate, 1e-12, `${name}, step ${i + 1}`)
    );
  }
});

Deno.test("schedules refuse cycles that are not whole, and shapes that there are not", () => {
  const options = { peak: 1, steps: 10 };
  assertThrows(
    () => cosineRestarts({ ...options, cycles: 1.5 }),
    InputError,
    "must be a whole number: got 1.5",
  );
  assertThrows(
    () => warmupStableDecay({ ...options, shape: "square" as "root" }),
    InputError,
    '"shape" must be one of cosine, linear, root: got "square"',
  );
  assertThrows(() => inverseRootRate({ peak: 1, timescale: 0 }), InputError, '"timescale" must be a number');
  assertThrows(() => oneCycle({ ...options, start: -1 }), InputError, '"start" must be a number');
  assertThrows(() => polynomialRate({ ...options, power: NaN }), InputError, '"power" must be a number');
});
