/**
 * Commands that train, on ranks within one process.
 *
 * @module
 */

import { assertEquals, assertNotEquals } from "@std/assert";
import { flatten, type Gpu, openGpu, type Ranks, read, scan } from "@firn/train";
import { logged, type LogRecord } from "@firn/train/report";
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

/** Trains as `digits` does; returns some weights after each step but the first, and what was logged of exchanges. */
async function walk(gpu: Gpu, ranks: Ranks) {
  const flags = { ...GIVEN, wire: EXCHANGE_FLAGS.wire.fallback, steps: STEPS };
  using training = digitTraining(gpu, MODELS.mlp, {
    ...{ steps: STEPS, rate: 0.01, ranks, exchange: exchangeOf(flags) },
    lookEvery: averagedLooks(flags, 2),
  });
  const joined = { ranks } as NonNullable<Parameters<typeof shareOf>[1]>;
  const batches = shareOf(digitBatches(DIGITS, { batch: 4, seed: 0 }).from(1), joined);
  const seen: Record<number, number[]> = {}, records: LogRecord[] = [];
  const states = scan(training, await training.init(MODELS.mlp.init(0)), batches);
  for await (const state of logged(states, { logger: (all) => void records.push(...all) })) {
    const [first] = flatten(state.params).values();
    if (state.step > 1) seen[state.step] = [...(await read(gpu, first)).subarray(0, 50)];
  }
  return { seen, exchanges: records.map(({ numbers }) => numbers["train/exchange_ms"]) };
}

Deno.test("digits on ranks that average have the same weights after an average, and others in between", async () => {
  await using gpu = await openGpu({ tune: false });
  const [a, b] = await Promise.all(ranksInProcess(2).map((ranks) => walk(gpu, ranks)));
  assertEquals(Object.keys(a.seen), ["2", "3", "4"]);
  assertNotEquals(a.seen[2], b.seen[2]);
  assertEquals([a.seen[3], a.seen[4]], [b.seen[3], b.seen[4]]);
  assertEquals(a.exchanges.map((ms) => ms > 0), [true, true, true, true]);
});
