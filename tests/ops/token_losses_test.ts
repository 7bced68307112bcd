/**
 * Losses of rows in chunks, beside those of all scores at once.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals } from "@std/assert";
import { grad, matmul, multiply, readAll, sum, tensor } from "@firn/train";
import { logSoftmax, negate, oneHot } from "@firn/train/ops";
import { tokenLosses } from "../../core/ops/token_losses.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { random } from "../reference/values.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const of = (shape: readonly number[], seed: number) =>
  tensor(Float32Array.from(random(shape, { seed, low: -1, high: 1 }).data), shape);

Deno.test("tokenLosses and its gradients, each row with a factor of its own, are those of all scores at once", async () => {
  const [rows, width, classes] = [130, 8, 12],
    labels = Int32Array.from({ length: rows }, (_, i) => i % 3 === 1 ? -100 : i % classes);
  const hidden = of([rows, width], 1), weight = of([classes, width], 2), factors = of([rows], 3);
  const kept = tensor(Float32Array.from(labels, (label) => label < 0 ? 0 : 1), [rows, 1]);
  const hot = multiply(oneHot(tensor(labels.map((label) => Math.max(label, 0))), classes), kept);
  const whole = negate(sum(multiply(logSoftmax(matmul(hidden, weight, { transposeB: true })), hot), -1));
  const wanted = await readAll(gpu, [whole, ...grad(sum(multiply(whole, factors)), [hidden, weight])]);
  // Of 130 rows: all at once, and 64 at a time, where the scores of a chunk are computed again for the gradient of the weight.
  for (const bytes of [2 ** 20, 4 * classes * 64]) {
    const losses = tokenLosses(hidden, { weight, labels: tensor(labels), bytes });
    const found = await readAll(gpu, [losses, ...grad(sum(multiply(losses, factors)), [hidden, weight])]);
    for (const [i, values] of wanted.entries()) {
      assertEquals(found[i].length, values.length);
      values.forEach((value, j) => assertAlmostEquals(found[i][j], value, 2e-5));
    }
    labels.forEach((label, row) => label === -100 && assertEquals(found[0][row] + 0, 0));
  }
});
