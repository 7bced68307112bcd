/** The example `ssm`: its scan, that it learns and freezes, and what it writes. */

import { assert, assertEquals, assertLess } from "@std/assert";
import { adamW, defineTraining, type Gpu, read, scan, tensor } from "@firn/train";
import { tokenWindows } from "@firn/train/data";
import { gradES } from "@firn/train/policies";
import { continueText } from "../../examples/ssm.ts";
import { ALPHABET, idsOf, newSsm, selectiveScan, ssmLoss, ssmScores } from "../../examples/ssm_model.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { assertNear, random } from "../reference/values.ts";

const gpu: Gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

Deno.test("selectiveScan gives the recurrence, character by character, of a float64 reference", async () => {
  const [B, T, C, N] = [2, 7, 3, 2];
  const of = (shape: readonly number[], seed: number) => random(shape, { seed, low: -1, high: 1 }).data;
  const x = of([B, T, C], 1),
    step = of([C, C], 2),
    bias = of([C], 3),
    write = of([N, C], 4),
    from = of([N, C], 5);
  const decay = of([C, N], 6), skip = of([C], 7);
  const t = (values: Float64Array, shape: readonly number[]) => tensor(Float32Array.from(values), shape);
  const found = await read(
    gpu,
    selectiveScan(t(x, [B, T, C]), {
      step: { weight: t(step, [C, C]), bias: t(bias, [C]) },
      write: { weight: t(write, [N, C]) },
      read: { weight: t(from, [N, C]) },
      decay: { weight: t(decay, [C, N]) },
      skip: { weight: t(skip, [C]) },
    }),
  );
  const wanted = new Float64Array(B * T * C);
  for (let b = 0; b < B; b++) {
    const h = new Float64Array(C * N);
    for (let at = 0; at < T; at++) {
      const now = x.subarray((b * T + at) * C, (b * T + at + 1) * C);
      const dot = (weight: Float64Array, row: number): number =>
        now.reduce((sum, value, c) => sum + value * weight[row * C + c], 0);
      for (let c = 0; c < C; c++) {
        const passed = Math.log1p(Math.exp(dot(step, c) + bias[c]));
        let y = skip[c] * now[c];
        for (let n = 0; n < N; n++) {
          h[c * N + n] = Math.exp(-passed * Math.exp(decay[c * N + n])) * h[c * N + n] +
            passed * dot(write, n) * now[c];
          y += h[c * N + n] * dot(from, n);
        }
        wanted[(b * T + at) * C + c] = y;
      }
    }
  }
  assertNear(found, wanted, { tolerance: 1e-5, what: "selectiveScan" });
});

Deno.test("a character's scores do not depend on those after it", async () => {
  const params = newSsm(1), [a, b] = ["State of", "Stat xyz"].map((text) => tensor(idsOf(text), [1, 8]));
  const scores = await Promise.all([a, b].map((ids) => read(gpu, ssmScores(params, ids))));
  const [same, other] = [4, 8].map((count) =>
    scores.map((all) => [...all.subarray(0, count * ALPHABET.length)])
  );
  assertEquals(same[0], same[1]);
  assert(other[0].some((value, i) => value !== other[1][i]));
});

Deno.test("the state-space model learns a text, a step gets cheaper when GradES freezes, and it writes what it learned", async () => {
  const ids = idsOf("To the Congress. ".repeat(40)), steps = 60;
  using training = defineTraining(gpu, ssmLoss, {
    optimizer: adamW({ learningRate: 1e-2 }),
    policy: gradES({ tau: 40, alpha: 0.5 }),
    steps,
  });
  let state = await training.init(newSsm(0));
  const losses: number[] = [];
  for await (state of scan(training, state, tokenWindows(ids, { length: 9, batch: 4 }).from(1))) {
    losses.push(...state.look?.loss ?? []);
  }
  assertLess(losses.at(-1)!, losses[0] / 4);
  assert(state.frozen.length > 0);
  assertLess(training.costOf(state.frozen).matmulFlops, training.costOf([]).matmulFlops);
  const { submits } = gpu.counts;
  const written = await continueText(gpu, state.params, { prompt: "To the ", count: 8, seed: 0, length: 8 });
  assertEquals(written.length, "To the ".length + 8);
  assert(written.startsWith("To the C"), written);
  // One submission to compute and one to read, for each character.
  assertEquals(gpu.counts.submits - submits, 16);
});
