/**
 * Preferences on several ranks: the step of one process with all their pairs.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals } from "@std/assert";
import { defineTraining, flatten, type Gpu, openGpu, type Ranks, read, sgd } from "@firn/train";
import { newModel } from "@firn/train/hub";
import {
  dpoLoss,
  type FullPairBatch,
  type Objective,
  orpoLoss,
  pairBatches,
  type SamplePair,
} from "@firn/train/objectives";
import { rankBatches } from "@firn/train/ranks";
import { ranksInProcess } from "./in_process.ts";

const SOURCE = {
  model_type: "llama",
  hidden_size: 8,
  intermediate_size: 8,
  num_hidden_layers: 1,
  num_attention_heads: 1,
  vocab_size: 24,
  max_position_embeddings: 8,
  tie_word_embeddings: true,
};
const PAIRS = 5, BATCH = 4, STEPS = 2;

/** Pairs of a prompt of two tokens, and answers of three; the second batch of an epoch has one pair. */
const pairs: SamplePair[] = Array.from({ length: PAIRS }, (_, i) => {
  const answer = (from: number) => ({
    ids: Int32Array.from([i, i + 1, ...[0, 1, 2].map((t) => (from + i * 5 + t * 3) % SOURCE.vocab_size)]),
    learned: Uint8Array.from([0, 0, 1, 1, 1]),
  });
  return { first: answer(7), second: answer(11), reference: [-8 - i / 4, -9 + i / 8] };
});

/** Losses and weights of a run on some ranks. */
async function run(
  gpu: Gpu,
  ranks: readonly Ranks[],
  objectiveOf: (model: Awaited<ReturnType<typeof newModel>>) => Objective<object, FullPairBatch>,
) {
  const model = await newModel(gpu, { source: SOURCE, seed: 1 });
  const whole = pairBatches(pairs, { length: 8, batch: BATCH, seed: 1, pad: 0 });
  return await Promise.all(ranks.map(async (own) => {
    using training = defineTraining(gpu, objectiveOf(model), {
      ...{ optimizer: sgd({ learningRate: 0.1 }), steps: STEPS, lookEvery: 1 },
      ...ranks.length > 1 && { ranks: own },
    });
    const mine = rankBatches(whole, { rank: own.rank, size: own.size, blocks: 2 }), losses: number[] = [];
    let state = await training.init(model.params);
    while (!state.done) {
      state = await training.next(state, await mine.at(state.step + 1));
      losses.push(state.look!.loss[0]);
    }
    const [first] = flatten(state.params).values();
    return { losses, weights: [...await read(gpu, first)] };
  }));
}

for (const [name, objectiveOf] of Object.entries({ dpo: dpoLoss, orpo: orpoLoss })) {
  Deno.test(`${name} on two ranks, one of which has no pair in the last batch, is that of one process`, async () => {
    await using gpu = await openGpu({ tune: false });
    const [whole] = await run(gpu, ranksInProcess(1), (model) => objectiveOf(model));
    const [a, b] = await run(gpu, ranksInProcess(2), (model) => objectiveOf(model));
    assertEquals(a, b);
    for (const [i, loss] of whole.losses.entries()) {
      assertAlmostEquals(a.losses[i], loss, 1e-5 * Math.abs(loss));
    }
    for (const [i, weight] of whole.weights.entries()) assertAlmostEquals(a.weights[i], weight, 1e-5);
  });
}
