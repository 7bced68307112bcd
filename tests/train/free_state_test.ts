import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import {
  adamW,
  defineTraining,
  flatten,
  free,
  freeState,
  InputError,
  nextTokenLoss,
  openGpu,
  read,
  snapshot,
} from "@firn/train";
import { newModel } from "@firn/train/hub";
import type { LlamaParams, TokenBatch } from "@firn/train/models";
import {
  advance,
  bitsOf,
  llamaSource,
  type Mlp,
  mlpLoss,
  newMlp,
  type Pairs,
  pairs,
  tokenBatch,
} from "./tiny.ts";

const BATCHES = pairs(6);

Deno.test("freeState frees all that a state holds, and nothing of the state after it", async () => {
  await using gpu = await openGpu();
  const training = defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer: adamW({ learningRate: 0.1 }),
    steps: BATCHES.length,
    lookEvery: 1,
  });
  const start = await training.init(newMlp());
  const two = await advance(training, start, { to: 2, batches: BATCHES });
  const before = gpu.counts.bytes, bits = await bitsOf(gpu, two);
  const copy = snapshot(gpu, two);
  freeState(copy);
  freeState(copy);
  assertEquals(gpu.counts.bytes, before);
  await assertRejects(() => read(gpu, copy.params.top.weight), InputError, "it was freed");
  // A step consumed it: its buffers are those of `two`.
  freeState(start);
  assertEquals([gpu.counts.bytes, await bitsOf(gpu, two)], [before, bits]);
  const three = await advance(training, two, { to: 3, batches: BATCHES });
  training[Symbol.dispose]();
  freeState(three);
  const staging = 65536;
  assertEquals(gpu.counts.bytes, staging);
});

Deno.test("parameters that are not trained share the memory of the model, until the last of both is freed", async () => {
  await using gpu = await openGpu();
  const source = llamaSource({ layers: 1, tied: false });
  const model = await newModel<LlamaParams>(gpu, { source, seed: 1 });
  const options = {
    optimizer: adamW({ learningRate: 0.1 }),
    steps: 2,
    trainable: (path: string) => path === "model.norm.weight",
  };
  const training = defineTraining<LlamaParams, TokenBatch>(gpu, nextTokenLoss(model), options);
  const before = gpu.counts.bytes;
  const start = await training.init(model.params), head = start.params.lm_head!.weight;
  const small = Math.max(...[...flatten(model.params).values()].map(({ shape }) => 4 * shape[0]));
  assert(gpu.counts.bytes - before < 8 * small, "the whole model was copied");
  const copy = snapshot(gpu, start),
    values = await read(gpu, head),
    norm = await read(gpu, start.params.model.norm.weight);
  const state = await training.next(start, tokenBatch([2, 8]));
  assertNotEquals(await read(gpu, state.params.model.norm.weight), norm);
  assertEquals(await read(gpu, model.params.model.norm.weight), norm);
  assertEquals(await read(gpu, copy.params.model.norm.weight), norm);
  free(model.params);
  free(model.params);
  await assertRejects(() => read(gpu, model.params.lm_head!.weight), InputError, "it was freed");
  assertEquals(await read(gpu, state.params.lm_head!.weight), values);
  freeState(state);
  assertEquals(await read(gpu, copy.params.lm_head!.weight), values);
  freeState(copy);
  training[Symbol.dispose]();
  assertEquals(gpu.counts.bytes, 65536); // The staging buffer of reads.
});
