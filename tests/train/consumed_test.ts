/**
 * Parameters that a step consumes while something else is under way with them.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import {
  adamW,
  ConsumedError,
  defineTraining,
  evaluate,
  matmul,
  nextTokenLoss,
  read,
  sgd,
  type TokenBatch,
} from "@firn/train";
import { generate } from "@firn/train/infer";
import { newModel } from "@firn/train/hub";
import type { LlamaParams } from "@firn/train/models";
import { waiting } from "./device_hooks.ts";
import { llamaSource, type Mlp, mlpLoss, newMlp, type Pairs, pairs, tokenBatch } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

Deno.test("generate throws ConsumedError when a step consumes its parameters between two tokens", async () => {
  const source = llamaSource({ layers: 1, tied: true });
  const model = await newModel<LlamaParams>(gpu, { source, seed: 1 });
  const training = defineTraining<LlamaParams, TokenBatch>(gpu, nextTokenLoss(model), {
    optimizer: adamW({ learningRate: 0.3 }),
    steps: 9,
  });
  const batch = tokenBatch([2, 8]);
  const state = await training.next(await training.init(model.params), batch);
  const ids: number[] = [];
  await assertRejects(
    async () => {
      const options = { prompt: [1, 2, 3], maxTokens: 10 };
      for await (const id of generate(gpu, { ...model, params: state.params }, options)) {
        if (ids.push(id) === 3) await training.next(state, batch);
      }
    },
    ConsumedError,
    "Cannot use the state of step 1 as step 2 consumed it",
  );
  assertEquals(ids.length, 3);
});

type Use = (params: Mlp) => Promise<unknown>;
const batches = pairs(1);
const training = defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
  optimizer: sgd({ learningRate: 0.1 }),
  steps: 9,
});
const uses: Readonly<Record<string, Use>> = {
  evaluate: (params) => evaluate(gpu, { loss: mlpLoss, params, batches }),
  read: (params) => read(gpu, mlpLoss(params, batches[0])),
  init: ({ bottom: { weight: bottom }, top: { weight: top } }) =>
    training.init({ ...newMlp(), top: { weight: matmul(top, matmul(bottom, top)) } }),
};

for (const [name, use] of Object.entries(uses)) {
  Deno.test(`${name} throws ConsumedError when a step consumes the parameters before it reads them`, async () => {
    const state = await training.next(await training.init(newMlp()), batches[0]);
    const { promise, resolve } = Promise.withResolvers<void>();
    let used: Promise<unknown>;
    {
      using _ = waiting(gpu, promise);
      used = use(state.params);
    }
    const rejected = assertRejects(() => used, ConsumedError, "as step 2 consumed it");
    await training.next(state, batches[0]);
    resolve();
    await rejected;
  });
}
