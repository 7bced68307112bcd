/**
 * Metrics of losses: looks have them, for whole batches and for parts.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals } from "@std/assert";
import { defineTraining, freeState, readAll, sgd, type TensorTree, type TrainingState } from "@firn/train";
import { loadModel, newAdapter } from "@firn/train/hub";
import { dpoLoss, type FullPairBatch, pairBatches, type SamplePair } from "@firn/train/objectives";
import { stepLines } from "@firn/train/report";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const base = await loadModel(gpu, "tests/fixtures/llama");
const model = await newAdapter(gpu, base, { rank: 2, targets: ["v_proj", "o_proj"], seed: 1 });
const row = (seed: number, length: number) => ({
  ids: Int32Array.from({ length }, (_, i) => (seed * 31 + i * 17) % 96),
  learned: Uint8Array.from({ length }, (_, i) => i < 3 ? 0 : 1),
});
const pairs: readonly SamplePair[] = [1, 2].map((seed) => ({
  first: row(seed, 9),
  second: row(seed + 7, 11),
}));
// Without rows whose reference is known, the adapter is off.
const withoutReference = ({ reference: _, ...batch }: FullPairBatch) => batch;
const [both] = pairBatches(pairs, { length: 16, batch: 2 }).all().map(withoutReference);
const parts = pairBatches(pairs, { length: 16, batch: 1 }).all().map(withoutReference);
const loss = dpoLoss(model, { beta: 0.5 });

async function trained(accumulate: number, batch: TensorTree | readonly TensorTree[]) {
  const training = defineTraining(gpu, loss as never, {
    optimizer: sgd({ learningRate: 0.5 }),
    steps: 4,
    lookEvery: 2,
    accumulate,
  });
  let state = await training.init(model.params as TensorTree as never) as TrainingState<TensorTree>;
  const looks: NonNullable<typeof state.look>[] = [];
  for (let step = 0; step < 4; step++) {
    state = await training.next(state, batch as never) as TrainingState<TensorTree>;
    if (state.look !== null) looks.push(state.look);
  }
  training[Symbol.dispose]();
  return { looks, state };
}

Deno.test("a look has the metrics of each step under TRL's names, and so has the log", async () => {
  const { looks, state } = await trained(1, both as never);
  assertEquals(looks.map(({ steps }) => steps), [[1, 2], [3, 4]]);
  const { metrics, loss: losses } = looks[0];
  assertEquals(Object.keys(metrics!).slice(0, 4), [
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
  ]);
  // A new adapter changes nothing, so that nothing is won before the first update.
  assertAlmostEquals(metrics!["rewards/margins"][0], 0, 1e-6);
  assertAlmostEquals(losses[0], Math.LN2, 1e-6);
  const margins = looks.flatMap((look) => look.metrics!["rewards/margins"]);
  margins.slice(1).forEach((margin, i) => assertEquals(margin > margins[i], true));
  // The metrics of a step are those of the weights before it.
  const values = await readAll(gpu, loss.metrics.compute(model.params as never, both as never));
  loss.metrics.names.forEach((name, i) => assertAlmostEquals(metrics![name][0], values[i][0], 1e-4));
  const [, line] = stepLines(state, { stepMs: 1 });
  assertEquals(line.metrics!["rewards/margins"], looks[1].metrics!["rewards/margins"][1]);
  freeState(state);
});

Deno.test("metrics of a step in parts are those of the whole batch", async () => {
  const whole = await trained(1, both as never), split = await trained(2, parts as never);
  for (const [i, { metrics, loss }] of whole.looks.entries()) {
    loss.forEach((value, s) => assertAlmostEquals(split.looks[i].loss[s], value, 1e-5));
    for (const [name, values] of Object.entries(metrics!)) {
      values.forEach((value, s) => assertAlmostEquals(split.looks[i].metrics![name][s], value, 1e-3));
    }
  }
  freeState(whole.state);
  freeState(split.state);
});
