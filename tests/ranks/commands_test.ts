/**
 * Commands that train, on ranks within one process.
 *
 * @module
 */

import { assertEquals, assertNotEquals } from "@std/assert";
import { flatten, type Gpu, openGpu, type Ranks, read, scan } from "@firn/train";
import { digitTraining, MODELS } from "../../examples/digits.ts";
import { digitBatches, PIXELS } from "../../examples/digits_data.ts";
import { averagedLooks, EXCHANGE_FLAGS, exchangeOf } from "../../examples/exchange_flags.ts";
import { shareOf } from "../../examples/ranks.ts";
import { numbers } from "./averaging.ts";
import { ranksInProcess } from "./in_process.ts";

const STEPS = 4, COUNT = 16;
const DIGITS = {
  count: COUNT,
  images: numbers(COUNT * PIXELS, 1),
  labels: Int32Array.from({ length: COUNT }, (_, i) => i % 10),
};
const GIVEN = {
  exchange: "parameters",
  "exchange-every": 3,
  "exchange-delay": 0,
  "outer-lr": 1,
  "outer-momentum": 0,
} as const;

/** Trains as `digits` does; returns the first weights after each step that has a look. */
async function walk(gpu: Gpu, ranks: Ranks): Promise<Record<number, number[]>> {
  const flags = { ...GIVEN, wire: EXCHANGE_FLAGS.wire.fallback, steps: STEPS };
  using training = digitTraining(gpu, MODELS.mlp, {
    ...{ steps: STEPS, rate: 0.01, ranks, exchange: exchangeOf(flags) },
    lookEvery: averagedLooks(flags, 2),
  });
  const joined = { ranks } as NonNullable<Parameters<typeof shareOf>[1]>;
  const batches = shareOf(digitBatches(DIGITS, { batch: 4, seed: 0 }).from(1), joined);
  const seen: Record<number, number[]> = {};
  for await (const state of scan(training, await training.init(MODELS.mlp.init(0)), batches)) {
    const [first] = flatten(state.params).values();
    if (state.step > 1) seen[state.step] = [...(await read(gpu, first)).subarray(0, 50)];
  }
  return seen;
}

Deno.test("digits on ranks that average have the same weights after an average, and others in between", async () => {
  await using gpu = await openGpu({ tune: false });
  const [a, b] = await Promise.all(ranksInProcess(2).map((ranks) => walk(gpu, ranks)));
  assertEquals(Object.keys(a), ["2", "3", "4"]);
  assertNotEquals(a[2], b[2]);
  assertEquals([a[3], a[4]], [b[3], b[4]]);
});
