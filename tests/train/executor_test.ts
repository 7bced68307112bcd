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
  type FreezePolicy,
  type Gpu,
  multiply,
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
import { newModel } from "@firn/train/hub";
import type { LlamaParams, Model } from "@firn/train/models";
import { refusing, reportError } from "./device_hooks.ts";
import {
  bitsOf,
  llamaSource,
  type Mlp,
  mlpLoss,
  newMlp,
  type Pairs,
  pairs,
  scheduled,
  tokenBatch,
} from "./tiny.ts";

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

/** Trains an MLP; gradDelta has double buffers. */
function mlp(gpu: Gpu): Training<Mlp, Pairs> {
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer: adamW({ learningRate: 0.01 }),
    policy: scheduled([], ["gradDelta"]),
    steps: 9,
  });
}

Deno.test("next has the device begin with a new plan before the last of its memory is asked for", async () => {
  await using gpu = await openGpu();
  const model = await newModel<LlamaParams>(gpu, { source, seed: 1 }), training = defined(gpu, model);
  const state = await training.init(model.params);
  const asked: boolean[] = [];
  using _ = refusing(gpu, ({ begun }) => asked.push(begun) < 0);
  await training.next(state, batch);
  assert(!asked[0] && asked.at(-1), `${asked}`);
});

Deno.test("next changes nothing when there is no room for a new plan, and can be tried again", async () => {
  await using gpu = await openGpu();
  const model = await newModel<LlamaParams>(gpu, { source, seed: 1 }), training = defined(gpu, model);
  const state = await training.init(model.params), twin = await training.init(model.params);
  const before = await bitsOf(gpu, state);
  {
    using _ = refusing(gpu, ({ begun }) => begun);
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

Deno.test("next keeps nothing more for a first step that failed, where a policy says what it measures", async () => {
  const policy: FreezePolicy = { ...scheduled([], ["gradNorm", "gradDelta"]), measured: () => ["top"] };
  const held: number[] = [], bits = [];
  for (const fails of [false, true]) {
    await using gpu = await openGpu();
    const training = defineTraining(gpu, mlpLoss, {
      optimizer: sgd({ learningRate: 0.1 }),
      steps: 3,
      policy,
    });
    const state = await training.init(newMlp());
    if (fails) {
      using _ = refusing(gpu, ({ begun }) => begun);
      await assertRejects(() => training.next(state, pairs(1)[0]), OutOfMemoryError, "no room");
    }
    bits.push(await bitsOf(gpu, await training.next(state, pairs(1)[0])));
    held.push(gpu.counts.bytes);
  }
  assertEquals(held[1], held[0]);
  assertEquals(bits[1], bits[0]);
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

Deno.test("next takes nothing of a step when the device reported an error before it, and can be tried again", async () => {
  await using gpu = await openGpu();
  const training = mlp(gpu), undisturbed = mlp(gpu);
  let state = await training.init(newMlp()), twin = await undisturbed.init(newMlp());
  // The first step records the plan, the next ones replay it with buffers that were swapped once and twice.
  for (const batch of pairs(3)) {
    const before = await bitsOf(gpu, state), at = `step ${state.step + 1}`;
    await reportError(gpu);
    await assertRejects(() => training.next(state, batch), Error, "reports: ", at);
    assertEquals(await bitsOf(gpu, state), before, at);
    state = await training.next(state, batch);
    twin = await undisturbed.next(twin, batch);
    assertEquals(await bitsOf(gpu, state), await bitsOf(gpu, twin), at);
  }
});

Deno.test("next takes nothing of a step when there is no room for what it keeps of the prefix, and can be tried again", async () => {
  await using gpu = await openGpu();
  const define = () =>
    defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
      optimizer: adamW({ learningRate: 0.01 }),
      steps: 9,
      trainable: (path) => path.startsWith("top"),
      cachePrefix: true,
    });
  const training = define(), [batch] = pairs(1);
  const state = await training.init(newMlp()), twin = await training.init(newMlp());
  const before = await bitsOf(gpu, state);
  {
    using _ = refusing(gpu, ({ label }) => label === "values of a prefix");
    await assertRejects(() => training.next(state, batch), OutOfMemoryError, '"values of a prefix"');
  }
  assertEquals(await bitsOf(gpu, state), before);
  const taken = await training.next(state, batch);
  assertEquals(training.prefix()!.samples, 4);
  assertEquals(await bitsOf(gpu, taken), await bitsOf(gpu, await define().next(twin, batch)));
});

Deno.test("next keeps buffers for the last batch alone, whatever shapes came before it", async () => {
  await using gpu = await openGpu();
  const training = mlp(gpu);
  let state = await training.next(await training.init(newMlp()), pairs(1, 4)[0]);
  const held = gpu.counts.bytes;
  for (const rows of [64, 4, 128, 4, 2]) {
    state = await training.next(state, pairs(1, rows)[0]);
    if (rows === 4) assertEquals(gpu.counts.bytes, held);
  }
  assert(gpu.counts.bytes <= held, `${gpu.counts.bytes} bytes for 2 rows, ${held} for 4`);
});

Deno.test("next makes the buffers of a batch anew when they were refused", async () => {
  await using gpu = await openGpu();
  const training = mlp(gpu), [batch] = pairs(1);
  const state = await training.init(newMlp());
  const made: string[] = [];
  {
    using _ = refusing(gpu, ({ label }) => label === "batch.x");
    await assertRejects(() => training.next(state, batch), OutOfMemoryError, '"batch.x"');
  }
  using _ = refusing(gpu, ({ label }) => made.push(label) < 0);
  await training.next(state, batch);
  assert(made.includes("batch.x"), `made ${made}`);
});
