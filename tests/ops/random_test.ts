import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { fill, grad, InputError, openGpu, read, sum, type Tensor, tensor } from "@firn/train";
import { dropout, randomNormal, randomUniform } from "@firn/train/ops";
import { uniformValues } from "@firn/train/kernels";
import { checkOps } from "../reference/check_ops.ts";
import { total } from "../reference/ops.ts";
import { drawNumber, MOST_DRAWS } from "../../core/ops/random.ts";
import { readStep } from "../reference/read_step.ts";

const RATE = 0.3;

checkOps([5, 8].map((width) => ({
  name: `dropout of 3x${width}`,
  inputs: [{ shape: [3, width] }],
  op: (x: Tensor) => dropout(x, { rate: RATE, seed: 7, stream: 2 }),
  reference: ({ shape, data }) => {
    const draw = uniformValues({ size: data.length, key: [7, 2], step: 1 });
    return { shape, data: data.map((x, i) => draw[i] < RATE ? 0 : x / (1 - RATE)) };
  },
})));

Deno.test("randomUniform gives the bits of its seed, stream and step", async () => {
  await using gpu = await openGpu();
  const [still, moving, other] = await readStep(gpu, [
    randomUniform([3, 5], { seed: 7 }),
    randomUniform([15], { seed: 7, stream: 1, eachStep: true }),
    randomUniform([2], { seed: 2 ** 32 - 1, stream: 1 }),
  ], 4);
  assertEquals(still, uniformValues({ size: 15, key: [7, 0] }));
  assertEquals(moving, uniformValues({ size: 15, key: [7, 1], step: 4 }));
  assertEquals(other, uniformValues({ size: 2, key: [2 ** 32 - 1, 1] }));
});

Deno.test("randomNormal has mean 0 and deviation 1", async () => {
  await using gpu = await openGpu();
  const size = 40000;
  const draw = [...await read(gpu, randomNormal([size], { seed: 3 }))];
  const mean = total(draw) / size;
  const variance = total(draw.map((x) => (x - mean) ** 2)) / size;
  // Deviations of these estimates: 1 / sqrt(n) = 0.005 and sqrt(2 / n) = 0.007.
  assert(Math.abs(mean) < 5 * 0.005, `${mean}`);
  assert(Math.abs(variance - 1) < 5 * 0.0071, `${variance}`);
});

Deno.test("dropout keeps the mean, and drops other elements at another step and stream", async () => {
  await using gpu = await openGpu();
  const size = 10000;
  const ones = tensor(new Float32Array(size).fill(1));
  const drops = [0, 1].map((stream) => dropout(ones, { rate: RATE, seed: 1, stream }));
  const [first, other] = await readStep(gpu, drops, 1), [second] = await readStep(gpu, drops, 2);
  const mean = total([...first]) / size;
  // The deviation of the mean is sqrt(0.3 / 0.7 / n) = 0.0065.
  assert(Math.abs(mean - 1) < 5 * 0.0066, `${mean}`);
  assertNotEquals(first, other);
  assertNotEquals(first, second);
});

Deno.test("dropout drops the same elements in the gradient as in the forward pass, at any step", async () => {
  await using gpu = await openGpu();
  const x = tensor(new Float32Array(301).fill(1));
  const y = dropout(x, { rate: 0.5, seed: 9 });
  const [out, slope] = await readStep(gpu, [y, ...grad(sum(y), [x])], 17);
  assertEquals(slope, out);
});

Deno.test("dropout of rate 0 is the tensor itself", () => {
  const x = fill(1, [3]);
  assert(dropout(x, { rate: 0, seed: 1 }) === x);
});

Deno.test("dropout and randomUniform refuse rates and seeds out of range", () => {
  const x = fill(1, [3]);
  assertThrows(
    () => dropout(x, { rate: 1, seed: 1 }),
    InputError,
    '"rate" must be at least 0 and below 1: got 1',
  );
  assertThrows(() => randomUniform([3], { seed: -1 }), InputError, '"seed" must be a whole number');
  assertThrows(
    () => randomUniform([3], { seed: 0, stream: 0.5 }),
    InputError,
    '"stream" must be a whole number',
  );
});

Deno.test("each draw has a number of its own that f32 holds and a word of 32 bits, and the first 2^24 their own", async () => {
  assertEquals([1, 5, 2 ** 24 - 1, 2 ** 24].map(drawNumber), [1, 5, 2 ** 24 - 1, 2 ** 24]);
  const octaves = Array.from({ length: 8 }, (_, i) => 2 ** 24 + i * 2 ** 23);
  for (const at of [...octaves, MOST_DRAWS - 2]) {
    const [before, own, next] = [at - 1, at, at + 1].map(drawNumber);
    assert(before < own && own < next && next < 2 ** 32, `${at}`);
    assertEquals([before, own, next].map(Math.fround), [before, own, next]);
  }
  await using gpu = await openGpu({ tune: false });
  // Two parts of a step, far from the first.
  const [a, b] = await Promise.all([MOST_DRAWS - 2, MOST_DRAWS - 1].map(async (draw) => {
    const step = drawNumber(draw), drawn = randomUniform([9], { seed: 3, eachStep: true });
    const [values] = await readStep(gpu, [drawn], step);
    assertEquals(values, uniformValues({ size: 9, key: [3, 0], step }));
    return values;
  }));
  assertNotEquals(a, b);
});
