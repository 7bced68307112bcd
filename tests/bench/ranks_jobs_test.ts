/**
 * Jobs and rows of the benchmark of several GPUs.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { HEAD, type Job, JOBS, jobsOfOne, jobsOfTwin, type Measured, rowOf, someOf } from "./ranks_jobs.ts";

const FIRST = JOBS[0], PLAIN = JOBS.find(({ micro, every }) => micro === 1 && every === null)!;
const seen = (job: Job, gpus: number, ms: number, rest: Partial<Measured> = {}): Measured => ({
  ...{ job, gpus, ms, by: "Firn", bytes: null, exchange: null, losses: [] },
  ...rest,
});

Deno.test("the benchmark of several GPUs has each shape, precision and exchange, whole and half, and each job once", () => {
  const texts = JOBS.map((job) => JSON.stringify(job));
  assertEquals(new Set(texts).size, texts.length);
  for (const shape of ["gpt2-124m", "smollm2-135m"]) {
    for (const precision of ["f16", "f32"]) {
      for (const adapter of [false, true]) {
        const own = JOBS.filter((job) =>
          job.shape === shape && job.precision === precision && job.adapter === adapter
        );
        assert(own.some(({ every }) => every === null), `${shape} ${precision} ${adapter}`);
      }
      const full = JOBS.filter((job) => job.shape === shape && job.precision === precision && !job.adapter);
      assert(
        full.some(({ every, delay }) => every === 20 && delay === 0) && full.some(({ delay }) => delay > 0) &&
          full.some(({ half }) => half),
        `${shape} ${precision}`,
      );
    }
  }
  assertEquals([FIRST.micro, FIRST.every, FIRST.half], [8, null, false]);
  // One GPU and PyTorch take no step twice.
  for (const jobs of [jobsOfOne(JOBS), jobsOfTwin(JOBS)]) {
    assertEquals(new Set(jobs.map((job) => JSON.stringify(job))).size, jobs.length);
    assert(jobs.length < JOBS.length && jobs.every(({ every }) => every === null));
  }
});

Deno.test("jobs are chosen by numbers, or are the first so many", () => {
  assertEquals(someOf(JOBS, "3"), JOBS.slice(0, 3));
  assertEquals(someOf(JOBS, "2,4-6"), [JOBS[1], ...JOBS.slice(3, 6)]);
  assertEquals(someOf(JOBS, "first"), []);
});

Deno.test("a row compares a job with the same steps on one GPU, PyTorch, and the losses of the total batch", () => {
  const two = seen(PLAIN, 2, 50, {
    ...{ bytes: 5e8, exchange: { ms: 40, waitedMs: 30, stages: { read: 9, sum: 20, write: 5 } } },
    losses: [10, 9],
  });
  assertEquals(
    rowOf(two, [two]),
    "| gpt2-124m, f16, B 8 T 1024, gradients | 2 | 327680 |  | 50.0 | 500.0 | 40.0 | 30.0 |  | 9.0, 20.0, 5.0 |  |  |  |",
  );
  const all = [
    ...[
      two,
      seen(PLAIN, 1, 40),
      seen({ ...PLAIN, micro: 2 }, 1, 0, { by: "Firn, losses", losses: [10, 9.009] }),
    ],
    ...[seen(PLAIN, 1, 20, { by: "autocast" }), seen(PLAIN, 2, 20, { by: "autocast" })],
  ];
  assertEquals(
    rowOf(two, all),
    "| gpt2-124m, f16, B 8 T 1024, gradients | 2 | 327680 | 1.60 | 50.0 | 500.0 | 40.0 | 30.0 | 75 % | 9.0, 20.0, 5.0 | 1.0e-3 | 819200 | 2.00 |",
  );
  // Steps are longer by 10 of the 40 ms; by 20 ms every 20 steps.
  const parameters = seen({ ...PLAIN, every: 20, delay: 4 }, 2, 41, {
    exchange: { ms: 50, waitedMs: 1, stages: { read: 0, sum: 49, write: 1 } },
  });
  assertEquals(
    rowOf(parameters, all),
    "| gpt2-124m, f16, B 8 T 1024, parameters every 20, 4 late | 2 | 399610 | 1.95 | 41.0 |  | 50.0 | 1.0 | 60 % | 0.0, 49.0, 1.0 |  |  |  |",
  );
  assertEquals(HEAD[0].split("|").length, rowOf(two, all).split("|").length);
  // Pairs of LoRA have one way in PyTorch, whatever the precision here.
  const pairs = JOBS.find(({ adapter, precision }) => adapter && precision === "f32")!;
  const twin = seen({ ...pairs, precision: "f16" }, 2, 10, { by: "PEFT, bf16" });
  assertEquals(rowOf(seen(pairs, 2, 10), [twin]).split("|").at(-3)?.trim(), (2e2 * 8 * 512).toFixed(0));
});
