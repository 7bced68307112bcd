/**
 * The first step of a plan, which begins on the device before all of it is recorded.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  type Gpu,
  multiply,
  newModel,
  nextTokenLoss,
  openGpu,
  OutOfMemoryError,
  readAll,
  sgd,
  sum,
  type Tensor,
  tensor,
  type TokenBatch,
  type Training,
  type TrainingState,
} from "@firn/train";
import type { LlamaParams, Model } from "@firn/train/models";
import { bitsOf, llamaSource, scheduled, tokenBatch } from "./tiny.ts";

/** Layers enough for launches in several portions. */
const source = llamaSource({ layers: 2, tied: true });
const batch = tokenBatch([2, 8]);

function defined(gpu: Gpu, model: Model<LlamaParams>): Training<LlamaParams, TokenBatch> {
  return defineTraining<LlamaParams, TokenBatch>(gpu, nextTokenLoss(model), {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 0.01 })),
    policy: scheduled([{ from: 1, frozen: ["model.layers.0.mlp.up_proj"] }]),
    steps: 9,
    lookEvery: 1,
  });
}

/** Has a buffer refused where a test says so; `begun` tells whether anything was submitted since. */
function refusing(gpu: Gpu, refuse: (begun: boolean) => boolean): Disposable {
  const { device } = gpu, seen = gpu.counts.submits;
  const value = (): Promise<GPUError | null> => {
    const refused = refuse(gpu.counts.submits > seen);
    return own().then((error) => refused ? { message: "no room" } as GPUError : error);
  };
  const own = device.popErrorScope.bind(device);
  Object.defineProperty(device, "popErrorScope", { configurable: true, value });
  return { [Symbol.dispose]: () => void Reflect.deleteProperty(device, "popErrorScope") };
}

Deno.test("next has the device begin with a new plan before the last of its memory is asked for", async () => {
  await using gpu = await openGpu();
  const model = await newModel<LlamaParams>(gpu, { source, seed: 1 }), training = defined(gpu, model);
  const state = await training.init(model.params);
  const asked: boolean[] = [];
  using _ = refusing(gpu, (begun) => asked.push(begun) < 0);
  await training.next(state, batch);
  assert(!asked[0] && asked.at(-1), `${asked}`);
});

Deno.test("next changes nothing when there is no room for a new plan, and can be tried again", async () => {
  await using gpu = await openGpu();
  const model = await newModel<LlamaParams>(gpu, { source, seed: 1 }), training = defined(gpu, model);
  const state = await training.init(model.params), twin = await training.init(model.params);
  const before = await bitsOf(gpu, state);
  {
    using _ = refusing(gpu, (begun) => begun);
    await assertRejects(() => training.next(state, batch), OutOfMemoryError, "no room");
  }
  assertEquals(await bitsOf(gpu, state), before);
  assertEquals(
    await bitsOf(gpu, await training.next(state, batch)),
    await bitsOf(gpu, await training.next(twin, batch)),
  );
});

Deno.test("next submits in portions after a look, but for a software adapter, whose device is the CPU", async () => {
  await using software = await openGpu();
  const runs = [];
  for (const gpu of [software, { ...software, software: false }]) {
    const model = await newModel<LlamaParams>(gpu, { source, seed: 1 }), training = defined(gpu, model);
    let state = await training.init(model.params);
    // The first of a frozen set is recorded.
    for (let i = 0; i < 2; i++) state = await training.next(state, batch);
    const { submits } = gpu.counts;
    state = await training.next(state, batch);
    const { launches } = state.cost!;
    // One more reads.
    runs.push({ submits: gpu.counts.submits - submits - 1, launches, bits: await bitsOf(gpu, state) });
  }
  const [whole, portions] = runs;
  assertEquals([whole.submits, portions.submits], [1, Math.ceil(portions.launches / 32)]);
  assert(portions.submits > 1);
  assertEquals(portions.bits, whole.bits);
});

Deno.test("next of two states at once takes each with its own batch", async () => {
  await using gpu = await openGpu();
  type Params = { readonly w: { readonly weight: Tensor } };
  // The gradient is the batch, so the launch that updates reads it.
  const loss = ({ w }: Params, { x }: { readonly x: Tensor }): Tensor => sum(multiply(w.weight, x));
  const training = defineTraining(gpu, loss, { optimizer: sgd({ learningRate: 1 }), steps: 9 });
  const started = (): Promise<TrainingState<Params>> => training.init({ w: { weight: tensor([0, 0]) } });
  const states = [await started(), await started()];
  const batches = [{ x: tensor([1, 2]) }, { x: tensor([3, 4]) }];
  const taken = await Promise.all(states.map((state, i) => training.next(state, batches[i])));
  const weights = await readAll(gpu, taken.map(({ params }) => params.w.weight));
  assertEquals(weights.map((values) => [...values]), [[-1, -2], [-3, -4]]);
});
