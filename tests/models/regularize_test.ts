/** Label smoothing, z-loss and noise on embeddings. */

import { assert, assertAlmostEquals, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import {
  classLoss,
  embedding,
  grad,
  InputError,
  logits,
  nextTokenLoss,
  read,
  readAll,
  tensor,
} from "@firn/train";
import { newModel } from "@firn/train/hub";
import { regularizedLoss, withNoise } from "../../core/models/regularize.ts";
import { readStep } from "../reference/read_step.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { random } from "../reference/values.ts";
import { llamaSource, tokenBatch } from "../train/tiny.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

Deno.test("regularizedLoss is PyTorch's smoothed cross-entropy and the squared log-sum-exp, over labels that count", async () => {
  const [rows, classes] = [4, 5], scores = random([rows, classes], { seed: 3, low: -2, high: 2 }).data;
  const labels = [1, -100, 4, 0], smoothing = 0.1, zLoss = 0.01;
  let expected = 0;
  for (const [r, label] of labels.entries()) {
    if (label < 0) continue;
    const row = [...scores.subarray(r * classes, (r + 1) * classes)];
    const all = Math.log(row.reduce((n, x) => n + Math.exp(x), 0));
    const uniform = row.reduce((n, x) => n + all - x, 0) / classes;
    expected += ((1 - smoothing) * (all - row[label]) + smoothing * uniform + zLoss * all ** 2) / 3;
  }
  const logits = tensor(Float32Array.from(scores), [rows, classes]);
  const options = { labels: tensor(Int32Array.from(labels)), labelSmoothing: smoothing, zLoss };
  const loss = regularizedLoss(logits, options), [slopes] = grad(loss, [logits]);
  const [[value], gradient] = await readAll(gpu, [loss, slopes]);
  assertAlmostEquals(value, expected, 1e-6);
  assertEquals([...gradient.subarray(classes, 2 * classes)].map(Math.abs), [0, 0, 0, 0, 0]);
});

Deno.test("withNoise draws other noise each step, within its bound, for rows of the ids alone", async () => {
  const [time, width] = [6, 8], ids = tensor(new Int32Array(2 * time), [2, time]);
  const table = tensor(new Float32Array(3 * width), [3, width]), alpha = 5;
  const noisy = withNoise(embedding(table, ids), { ids, neftune: alpha });
  const [[first], [second]] = [await readStep(gpu, [noisy], 1), await readStep(gpu, [noisy], 2)];
  const bound = alpha / Math.sqrt(time * width), largest = Math.max(...first.map(Math.abs));
  assert(largest <= bound && largest > 0.9 * bound, `${largest} of ${bound}`);
  assert(Math.abs([...first].reduce((a, b) => a + b, 0) / first.length) < 0.2 * bound);
  assertNotEquals(first, second);
  const others = embedding(table, tensor(new Int32Array(2 * time), [2, time]));
  assertEquals(withNoise(others, { ids, neftune: alpha }), others);
});

Deno.test("nextTokenLoss is regularized in training alone, and says so to the checkpoint", async () => {
  const model = await newModel(gpu, { source: llamaSource({ layers: 1, tied: true }), seed: 1 });
  const batch = tokenBatch([2, 8]), plain = nextTokenLoss(model);
  const losses = [
    nextTokenLoss(model, { labelSmoothing: 0.1 }),
    nextTokenLoss(model, { zLoss: 1e-2 }),
    nextTokenLoss(model, { neftune: 500 }),
  ];
  const expected = await read(gpu, plain(model.params, batch));
  for (const loss of losses) {
    assertEquals(await read(gpu, loss(model.params, batch)), expected);
    assertNotEquals(await read(gpu, loss(model.params, batch, { training: true })), expected);
  }
  assertEquals(new Set([plain, ...losses].map((loss) => loss.model)).size, 4);
  assertEquals(nextTokenLoss(model, { labelSmoothing: 0 }).model, plain.model);
  assertEquals(await read(gpu, plain(model.params, batch, { training: true })), expected);
  for (const wrong of [{ labelSmoothing: 1 }, { zLoss: -1 }, { neftune: NaN }]) {
    assertThrows(() => nextTokenLoss(model, wrong), InputError, 'Cannot apply "nextTokenLoss"');
  }
});

Deno.test("classLoss is smoothed in training alone, and refuses to smooth labels of several classes", async () => {
  const source = {
    ...llamaSource({ layers: 1, tied: true }),
    architectures: ["LlamaForSequenceClassification"],
    num_labels: 3,
  };
  const model = await newModel(gpu, { source, seed: 1 }), { inputIds } = tokenBatch([2, 8]);
  const batch = { inputIds, labels: tensor(new Int32Array([0, 2])) };
  const plain = classLoss(model), smoothed = classLoss(model, { labelSmoothing: 0.2 });
  const expected = await read(gpu, plain(model.params, batch));
  assertEquals(await read(gpu, smoothed(model.params, batch)), expected);
  const scores = logits(model, inputIds), trained = smoothed(model.params, batch, { training: true });
  const same = regularizedLoss(scores, { labels: batch.labels, labelSmoothing: 0.2 });
  assertEquals(await read(gpu, trained), await read(gpu, same));
  assertNotEquals(await read(gpu, trained), expected);
  const several = { inputIds, labels: tensor([1, 0, 1, 0, 0, 1], [2, 3]) };
  assertThrows(
    () => smoothed(model.params, several, { training: true }),
    InputError,
    "these are for rows with one class",
  );
});
