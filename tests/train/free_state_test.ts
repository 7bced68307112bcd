import { assertEquals, assertRejects } from "@std/assert";
import { adamW, defineTraining, freeState, InputError, openGpu, read, snapshot } from "@firn/train";
import { advance, bitsOf, type Mlp, mlpLoss, newMlp, type Pairs, pairs } from "./tiny.ts";

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
