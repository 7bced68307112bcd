/**
 * The network of the benchmark.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals, assertLess } from "@std/assert";
import { openGpu, read, tensor } from "@firn/train";
import { batchOf, oneLayer, startWeights, VOCABULARY } from "./one_layer.ts";

const SIZE = { width: 32, time: 16, batch: 4 };

Deno.test("oneLayer starts at the loss of a guess and learns to add five", async () => {
  await using gpu = await openGpu();
  const { training, state: start } = await oneLayer(gpu, SIZE);
  const shape = [SIZE.batch, SIZE.time], losses: number[] = [];
  let state = start;
  while (state.step < 60) {
    const { x, y } = batchOf(SIZE, state.step + 1);
    state = await training.next(state, { x: tensor(x, shape), y: tensor(y, shape) });
    if (state.step === 1 || state.step === 60) losses.push((await read(gpu, state.loss!))[0]);
  }
  // Weights of deviation 0.02 give scores of about 0.1, so that all ids are nearly as likely.
  assertAlmostEquals(losses[0], Math.log(VOCABULARY), 0.05);
  assertLess(losses[1], losses[0] - 0.5);
});

Deno.test("batchOf asks for the id after the one that it gives, and differs from step to step", () => {
  const { x, y } = batchOf(SIZE, 1), next = batchOf(SIZE, 2);
  assertEquals(x.length, SIZE.batch * SIZE.time);
  for (let t = 1; t < SIZE.time; t++) assertEquals(y[t - 1], x[t]);
  assertEquals(next.x[0], x[0] + 7);
});

Deno.test("startWeights draws each matrix from a stream of its own", () => {
  const { w1, w2, wo } = startWeights(SIZE);
  assertEquals([w1.shape, w2.shape, wo.shape], [[32, 128], [128, 32], [32, 32]]);
  assertEquals(w1.data.every((value, i) => value !== w2.data[i]), true);
});
