/**
 * What looks tell about clipping.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  globalNorm,
  grad,
  readAll,
  tensor,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { memoryFileSystem } from "@firn/train/data";
import { openTestGpu } from "../reference/open_gpu.ts";
import { advance, bitsOf, type Mlp, mlpLoss, newMlp, type Pairs, pairs, scheduled } from "./tiny.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const LIMIT = 0.5, batches = pairs(6);

function define(limit = LIMIT) {
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer: chain(clipByGlobalNorm(limit), adamW({ learningRate: 0.05 })),
    policy: scheduled([], ["gradNorm", "secondMoment"]),
    steps: 6,
    lookEvery: 3,
  });
}

Deno.test("a look tells what clipping multiplied the gradients of each step by, and 1 where it did nothing", async () => {
  const training = define();
  let state = await training.init(newMlp());
  const expected: number[] = [];
  for (const batch of batches.slice(0, 3)) {
    const weights = [state.params.bottom.weight, state.params.top.weight];
    const [bottom, top] = (await readAll(gpu, weights)).map((w, i) => tensor(w.slice(), weights[i].shape));
    const grads = grad(mlpLoss({ bottom: { weight: bottom }, top: { weight: top } }, batch), [bottom, top]);
    const [[norm]] = await readAll(gpu, [globalNorm(new Map(grads.map((g, i) => [`${i}`, g])))]);
    expected.push(Math.min(1, LIMIT / norm));
    state = await training.next(state, batch);
  }
  assertEquals(expected.some((factor) => factor < 1), true);
  expected.forEach((factor, i) => assertAlmostEquals(state.look!.clip![i], factor, 1e-5));
  const free = define(1e9);
  assertEquals((await advance(free, await free.init(newMlp()), { to: 3, batches })).look!.clip, [1, 1, 1]);
});

Deno.test("a look tells nothing of clipping where the optimizer does not clip", async () => {
  const training = defineTraining(gpu, mlpLoss, { optimizer: adamW({ learningRate: 0.05 }), steps: 1 });
  const { look } = await training.next(await training.init(newMlp()), batches[0]);
  assertEquals(look!.clip, undefined);
});

Deno.test("a state that an earlier version saved between two looks goes on, without what it had not measured", async () => {
  const fileSystem = memoryFileSystem(), path = "state.safetensors";
  const whole = define(), expected = await advance(whole, await whole.init(newMlp()), { to: 3, batches });
  const first = define();
  await saveCheckpoint(gpu, await advance(first, await first.init(newMlp()), { to: 2, batches }), {
    path,
    fileSystem,
  });
  const saved = await loadCheckpoint(path, { fileSystem });
  // Rows had no column for it, which stands after the loss.
  const ring = saved.leaves.get("ring")!, [rows, width] = ring.shape;
  const data = Float32Array.from(ring.data).filter((_, i) => i % width !== 1);
  const { clips: _, ...settings } = saved.settings as Exclude<typeof saved.settings, string>;
  const earlier = {
    ...saved,
    settings,
    leaves: new Map([...saved.leaves, ["ring", { ...ring, shape: [rows, width - 1], data }]]),
  };
  const second = define();
  const last = await advance(second, await second.resume(earlier), { to: 3, batches });
  assertEquals(last.look!.readings, expected.look!.readings);
  assertEquals(last.look!.clip, [NaN, NaN, expected.look!.clip![2]]);
  const bits = await Promise.all(
    [last, expected].map(async (state) => (await bitsOf(gpu, state))["bottom.weight"]),
  );
  assertEquals(bits[0], bits[1]);
});
