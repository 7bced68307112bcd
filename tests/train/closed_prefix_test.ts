import { assert, assertEquals } from "@std/assert";
import { adamW, defineTraining, nextTokenLoss } from "@firn/train";
import { newModel } from "@firn/train/hub";
import { closePrefix, type FreezePolicy, layerLinears, only, stopAt } from "@firn/train/policies";
import { llamaSource, tokenBatch } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const model = await newModel(gpu, { source: llamaSource({ layers: 2, tied: false }), seed: 1 });

/** The frozen set that a policy has after the first step, and what a step costs with it. */
async function frozenBy(policy: FreezePolicy) {
  const training = defineTraining(gpu, nextTokenLoss(model), {
    optimizer: adamW({ learningRate: 0.01 }),
    policy,
    steps: 2,
    lookEvery: 1,
  });
  const { frozen, event } = await training.next(await training.init(model.params), tokenBatch([2, 8]));
  return { frozen, before: event!.before.matmulFlops, after: event!.after.matmulFlops };
}

Deno.test("closePrefix saves as much again as the frozen matrices of a layer, with embedding and norms", async () => {
  const linears = only((c) => layerLinears(c) && c.layer === 0, stopAt(1));
  const open = await frozenBy(linears);
  const closed = await frozenBy(closePrefix(linears));
  const added = closed.frozen.filter((path) => !open.frozen.includes(path));
  assertEquals(added.sort(), [
    "model.embed_tokens",
    "model.layers.0.input_layernorm",
    "model.layers.0.post_attention_layernorm",
  ]);
  // dW of the layer's matrices; then dX of them as well, as many FLOPs, and the gradient of attention on top.
  const saved = open.before - open.after;
  assert(saved > 0);
  assert(closed.before - closed.after >= 2 * saved, `${closed.before - closed.after} of ${saved}`);
});
