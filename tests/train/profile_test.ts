/**
 * `training.profile`: what it takes is undone, whatever happens meanwhile.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { adamW, defineTraining, type Gpu, InputError, OutOfMemoryError, type Training } from "@firn/train";
import { refusing } from "./device_hooks.ts";
import { bitsOf, type Mlp, mlpLoss, newMlp, type Pairs, pairs, scheduled } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const ignore = !gpu.features.has("timestamp-query");
const [first, second] = pairs(2);

function define(on: Gpu = gpu): Training<Mlp, Pairs> {
  return defineTraining<Mlp, Pairs>(on, mlpLoss, {
    optimizer: adamW({ learningRate: 0.01 }),
    policy: scheduled([], ["gradDelta"]),
    steps: 9,
  });
}

Deno.test("profile refuses a device without timestamps, and leaves nothing there", async () => {
  const training = define({ ...gpu, features: new Set() });
  const state = await training.next(await training.init(newMlp()), first);
  const held = gpu.counts.bytes;
  await assertRejects(() => training.profile(state), InputError, "has no timestamp-query");
  assertEquals(gpu.counts.bytes, held);
});

Deno.test({
  name: "profile of one state twice at once leaves it as it is, to the bit",
  ignore,
  async fn() {
    const training = define();
    const state = await training.next(await training.init(newMlp()), first);
    const before = await bitsOf(gpu, state);
    const [a, b] = await Promise.all([training.profile(state), training.profile(state)]);
    assertEquals(a.map(({ name }) => name), b.map(({ name }) => name));
    assertEquals(await bitsOf(gpu, state), before);
  },
});

Deno.test({
  name: "profile and next of one state at once give the bits of next alone",
  ignore,
  async fn() {
    const training = define(), other = define();
    const state = await training.next(await training.init(newMlp()), first);
    const [rows, taken] = await Promise.all([training.profile(state), training.next(state, second)]);
    const twin = await other.next(await other.next(await other.init(newMlp()), first), second);
    assert(rows.length > 0);
    assertEquals(await bitsOf(gpu, taken), await bitsOf(gpu, twin));
  },
});

Deno.test({
  name: "profile lets nobody read what it undoes",
  ignore,
  async fn() {
    const training = define();
    const state = await training.next(await training.init(newMlp()), first);
    const before = await bitsOf(gpu, state);
    const profiling = training.profile(state);
    for (let i = 0; i < 3; i++) assertEquals(await bitsOf(gpu, state), before, `read ${i}`);
    await profiling;
  },
});

Deno.test({
  name: "profile does nothing and leaves nothing when there is no room for a copy of the state",
  ignore,
  async fn() {
    const training = define();
    const state = await training.next(await training.init(newMlp()), first);
    const before = await bitsOf(gpu, state), held = gpu.counts.bytes;
    {
      using _ = refusing(gpu, () => true);
      await assertRejects(() => training.profile(state), OutOfMemoryError, "no room");
    }
    assertEquals([await bitsOf(gpu, state), gpu.counts.bytes], [before, held]);
    assert((await training.profile(state)).length > 0);
    assertEquals(gpu.counts.bytes, held);
  },
});
