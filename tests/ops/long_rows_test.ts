/**
 * Rows longer than a thread of a software adapter can loop over: it leaves loops after 65,535 rounds, without a word.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals } from "@std/assert";
import { readAll, tensor } from "@firn/train";
import { argmax, cumsum, max, softmax, sum, topK } from "@firn/train/ops";
import { categorical, massThreshold } from "../../core/ops/sampling.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

for (const length of [70001, 280004]) {
  Deno.test(`rows of ${length} elements are read to their end`, async () => {
    const x = Float32Array.from({ length }, (_, i) => i * 7919 % 64), order = [length - 2, 5, length - 9, 17];
    order.forEach((at, i) => x[at] = 99 - i);
    const row = tensor(x, [1, length]), { values, indices } = topK(row, 4, { axis: 1 });
    const found = await readAll(gpu, [
      indices,
      values,
      argmax(row, 1),
      max(row, 1),
      sum(row, 1),
      cumsum(row, 1),
    ]);
    const total = x.reduce((a, b) => a + b, 0);
    assertEquals(found.slice(0, 5).map((all) => [...all]), [order, [99, 98, 97, 96], [order[0]], [99], [
      total,
    ]]);
    assertEquals(found[5][length - 1], total);
    // Along columns, a thread reads all of them.
    const column = tensor(Float32Array.from({ length: 2 * length }, (_, i) => x[i >> 1]), [length, 2]);
    const [best, sums, shares] = await readAll(gpu, [
      topK(column, 4, { axis: 0 }).indices,
      cumsum(column, 0),
      softmax(column, 0),
    ]);
    assertEquals([...best], order.flatMap((at) => [at, at]));
    assertEquals([...sums.slice(-2)], [total, total]);
    const share = Math.exp(-2) / x.reduce((sum, value) => sum + Math.exp(value - 99), 0);
    assertAlmostEquals(shares[2 * order[2] + 1], share, 1e-3 * share);
  });
}

Deno.test("a token is drawn from all of a large vocabulary, above a threshold found among all of it", async () => {
  const length = 70001, last = length - 3;
  const keys = Float32Array.from({ length }, (_, i) => i === last ? 3 : i === 9 ? 2 : -(i % 1000) / 1000);
  const rows = tensor(keys, [1, length]), weights = keys.map((key) => key >= 2 ? 0.4 : 0.2 / length);
  // All of the probability is at one end, or at the other.
  const scores = [last, 0].map((at) => tensor(keys.map((_, i) => i === at ? 50 : 0), [1, length]));
  const draw = { seeds: tensor(new Int32Array([3])), places: tensor(new Int32Array([7])), stream: 1 };
  const found = await readAll(gpu, [
    massThreshold(rows, { mass: tensor([2]) }),
    massThreshold(rows, { mass: tensor([0.7]), weights: tensor(weights, [1, length]) }),
    ...scores.map((one) => categorical(one, draw)),
  ]);
  assertEquals(found.map(([value]) => value), [2, 2, last, 0]);
});
