/**
 * What steps add to weak maps, which a collection of garbage searches again and again while the program waits.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { adamW, defineTraining, freeState } from "@firn/train";
import { type Mlp, mlpLoss, newMlp, type Pairs, pairs } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

/** Keys of tensors and states that weak maps get while something is done. Keys of other kinds come from the runtime, too. */
async function keysWhile(use: () => Promise<void>): Promise<{ tensors: number; states: number }> {
  const { set } = WeakMap.prototype, keys = { tensors: 0, states: 0 };
  WeakMap.prototype.set = function (key, value) {
    const known = key as object;
    if ("op" in known) keys.tensors++;
    if ("leaves" in known) keys.states++;
    return set.call(this, key, value);
  };
  try {
    await use();
  } finally {
    WeakMap.prototype.set = set;
  }
  return keys;
}

Deno.test("a step adds its state to one weak map, and none of its tensors to any", async () => {
  using training = defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer: adamW({ learningRate: 0.1 }),
    steps: 9,
    lookEvery: 2,
  });
  const [batch] = pairs(1);
  let state = await training.next(await training.init(newMlp()), batch);
  const keys = await keysWhile(async () => {
    for (let i = 0; i < 5; i++) state = await training.next(state, batch);
  });
  assertEquals(keys, { tensors: 0, states: 5 });
  freeState(state);
});
