import { assertAlmostEquals, assertEquals } from "@std/assert";
import { constantRate, cosine, linearRate } from "@firn/train";

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
