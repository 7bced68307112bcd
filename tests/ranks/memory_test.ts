/**
 * What training says that it takes on the device where ranks exchange, before and after something froze.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  adamW,
  defineTraining,
  freeState,
  type FreezePolicy,
  type Gpu,
  openGpu,
  OutOfMemoryError,
  type Tensor,
  tensor,
  type TrainingOptions,
} from "@firn/train";
import { matmul, mean, multiply, tanh } from "@firn/train/ops";
import { averageParameters } from "@firn/train/ranks";
import { delayedSums } from "../../core/ranks/delayed_sums.ts";
import { wireMean } from "../../core/ranks/wire.ts";
import { createBuffer, destroyBuffer } from "../../core/runtime/buffers.ts";
import { gradientExchange } from "../../core/train/step/exchange.ts";
import { wrappedGpu } from "../runtime/wrapped_gpu.ts";
import { refusing } from "../train/device_hooks.ts";
import { ranksInProcess } from "./in_process.ts";

/** Layers, each with a weight of 64 KiB, and steps from one look to the next. */
const LAYERS = 6, WIDTH = 128, LOOK = 4;
/** Bytes of the buffer through which looks are read, which the device keeps. */
const READ = 65536;

type Params = { readonly layers: Readonly<Record<string, { readonly weight: Tensor }>> };

function newParams(): Params {
  const weight = (layer: number): Tensor =>
    tensor(Float32Array.from({ length: WIDTH ** 2 }, (_, i) => Math.sin(i * (layer + 3)) / 10), [
      WIDTH,
      WIDTH,
    ]);
  return { layers: Object.fromEntries(Array.from({ length: LAYERS }, (_, i) => [i, { weight: weight(i) }])) };
}

function loss({ layers }: Params, { x }: { readonly x: Tensor }): Tensor {
  const y = Object.values(layers).reduce((h, { weight }) => tanh(matmul(h, weight)), x);
  return mean(multiply(y, y));
}

/** Freezes all but the last layer at the first look, and nothing from the second look on. */
const policy: FreezePolicy<number> = {
  name: "once",
  signals: [],
  init: () => 0,
  next: (_, { steps }) => steps.at(-1)!,
  frozen: (step) => step === LOOK ? Array.from({ length: LAYERS - 1 }, (_, i) => `layers.${i}`) : [],
};

/** Bytes that two ranks of one device hold after some steps, above what both say. */
async function overOf(
  gpu: Gpu,
  { after, ...options }: Partial<TrainingOptions> & { readonly after: readonly number[] },
): Promise<number[]> {
  const before = gpu.counts.bytes, over: number[] = [];
  const trainings = ranksInProcess(2).map((ranks) =>
    defineTraining(gpu, loss, {
      optimizer: adamW({ learningRate: 0.01 }),
      steps: 100,
      lookEvery: LOOK,
      policy,
      memory: "1 GiB",
      ranks,
      ...options,
    })
  );
  let states = await Promise.all(trainings.map((training) => training.init(newParams())));
  for (let step = 1; step <= after.at(-1)!; step++) {
    const x = tensor(Float32Array.from({ length: WIDTH }, (_, i) => Math.sin(i + step)), [1, WIDTH]);
    states = await Promise.all(trainings.map((training, r) => training.next(states[r], { x })));
    const said = trainings.reduce((n, training) => n + training.memory()!.bytes, 0);
    if (after.includes(step)) over.push(gpu.counts.bytes - before - said);
  }
  states.forEach(freeState);
  trainings.forEach((training) => training[Symbol.dispose]());
  return over;
}

for (const source of [undefined, wrappedGpu({ bindings: 10 })]) {
  Deno.test(`memory tells what an exchange of gradients holds after a freeze and a thaw${source ? ", where sums go back through buffers that stay mapped" : ""}`, async () => {
    await using gpu = await openGpu({ tune: false, ...source && { gpu: source } });
    assertEquals(await overOf(gpu, { after: [5, 7, 9] }), [READ, READ, READ]);
  });
}

Deno.test("memory tells what an exchange of parameters holds after a freeze, and no less before its next one", async () => {
  const over = async (exchange: ReturnType<typeof averageParameters>): Promise<number[]> => {
    await using gpu = await openGpu({ tune: false, gpu: wrappedGpu({ bindings: 10 }) });
    return await overOf(gpu, { exchange, after: [5, 6, 7] });
  };
  // A first exchange is in the look that freezes, the next one after step 6.
  const [before, ...after] = await over(averageParameters({ every: 2 }));
  assert(before < 0, `${before}`);
  assertEquals(after, [READ, READ]);
  const [coded, ...codes] = await over(averageParameters({ every: 2, wire: "bf16" }));
  assert(coded < 0, `${coded}`);
  // Codes of all weights were read at a time, before the freeze.
  assertEquals(codes, [3 * READ, 3 * READ]);
  const late = await over(averageParameters({ every: 4, delay: 2 }));
  assert(late.every((bytes) => bytes < 0), `${late}`);
});

Deno.test("an exchange of fewer sums keeps the buffers that it needs, and frees the others", async () => {
  await using gpu = await openGpu({ tune: false });
  const exchange = gradientExchange(gpu, ranksInProcess(1)[0]), bytes = 2 ** 18;
  const sums = Array.from(
    { length: 4 },
    () => ({ buffer: createBuffer(gpu, { label: "sum", bytes }), bytes }),
  );
  const { counts } = gpu, before = counts.bytes, seen: number[][] = [];
  for (const count of [4, 2, 3]) {
    const { buffers } = counts;
    await exchange.sum(sums.slice(0, count));
    seen.push([(counts.bytes - before) / bytes, counts.buffers - buffers]);
  }
  assertEquals(seen, [[4, 4], [2, 0], [3, 1]]);
  exchange.destroy();
  sums.forEach(({ buffer }) => destroyBuffer(buffer));
});

Deno.test("what the device refuses an exchange is freed, and made anew by the next one", async () => {
  await using gpu = await openGpu({ tune: false });
  const [ranks] = ranksInProcess(1), bytes = 2 ** 18;
  const gradients = gradientExchange(gpu, ranks), later = delayedSums(gpu, ranks);
  const codes = wireMean(gpu, { ranks, code: "bf16", advances: true, bucket: 1024 });
  const make = (): GPUBuffer => createBuffer(gpu, { label: "values", bytes });
  const [buffer, start, now, residual] = [make(), make(), make(), make()];
  const exchanges = [
    () => gradients.sum([{ buffer, bytes }]),
    () => later.stage([{ buffer, bytes }], 1),
    () => codes.average([{ start, now, residual, items: 1024 }]),
  ];
  for (const exchange of exchanges) {
    const before = gpu.counts.bytes;
    {
      using _ = refusing(gpu, ({ label }) => /staging|exchange/.test(label));
      await assertRejects(exchange, OutOfMemoryError, "no room");
    }
    assertEquals(gpu.counts.bytes, before);
    await exchange();
  }
  [gradients, later, codes].forEach((one) => one.destroy());
  [buffer, start, now, residual].forEach(destroyBuffer);
});

Deno.test("an average by codes of fewer parameters keeps the buffers that it needs, and frees the others", async () => {
  await using gpu = await openGpu({ tune: false });
  const bucket = 1024, make = (): GPUBuffer => createBuffer(gpu, { label: "test", bytes: 4 * 3 * bucket });
  const mean = wireMean(gpu, { ranks: ranksInProcess(1)[0], code: "bf16", advances: true, bucket });
  const one = { start: make(), now: make(), residual: make() }, { counts } = gpu;
  await mean.average([{ ...one, items: 3 * bucket }]);
  // What the device reads through stays.
  mean.destroy();
  const before = counts.bytes, seen: number[][] = [];
  for (const items of [3 * bucket, bucket, bucket / 2]) {
    const { buffers } = counts;
    await mean.average([{ ...one, items }]);
    seen.push([counts.bytes - before, counts.buffers - buffers]);
  }
  const [[all, made]] = seen;
  assertEquals(seen, [[all, made], [all / 3, 0], [all / 6, made / 3]]);
  mean.destroy();
  Object.values(one).forEach(destroyBuffer);
});
