/**
 * Objects of WebGPU that steps make. Those of an addon are ended one by one after a collection of garbage, while the program waits:
 * what a plan needs in each step is made once.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { adamW, defineTraining, freeState, openGpu, type TrainingState } from "@firn/train";
import { averageParameters } from "@firn/train/ranks";
import { ranksInProcess } from "../ranks/in_process.ts";
import { wrappedGpu } from "../runtime/wrapped_gpu.ts";
import { type Mlp, mlpLoss, newMlp, type Pairs, pairs } from "./tiny.ts";

/** Calls that give an object; an error scope gives one to its promise. */
const MAKES = /^(create|begin|finish$|get.*Layout|mapAsync|pushErrorScope)/;

const made: Record<string, number> = {};
const gpu = await openGpu({
  gpu: wrappedGpu({
    bindings: 8,
    onCall: (name) => MAKES.test(name) && (made[name] = (made[name] ?? 0) + 1),
  }),
  tune: false,
});
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

/** What is made while something is done. */
async function madeWhile(use: () => Promise<void>): Promise<Record<string, number>> {
  for (const name of Object.keys(made)) delete made[name];
  await use();
  return { ...made };
}

const [batch] = pairs(1), optimizer = adamW({ learningRate: 0.1 });

Deno.test("a step makes its commands, and no other object", async () => {
  using training = defineTraining<Mlp, Pairs>(gpu, mlpLoss, { optimizer, steps: 99, lookEvery: 99 });
  let state = await training.init(newMlp());
  const take = async (steps: number): Promise<void> => {
    for (let i = 0; i < steps; i++) state = await training.next(state, batch);
  };
  await take(3);
  assertEquals(await madeWhile(() => take(4)), { createCommandEncoder: 4, beginComputePass: 4, finish: 4 });
  freeState(state);
});

Deno.test("an exchange of parameters makes commands, and no other object after the first", async () => {
  const ranks = ranksInProcess(2), exchange = averageParameters({ every: 2 });
  const trainings = ranks.map((own) =>
    defineTraining<Mlp, Pairs>(gpu, mlpLoss, { optimizer, steps: 99, lookEvery: 99, ranks: own, exchange })
  );
  const states = await Promise.all(trainings.map((training) => training.init(newMlp())));
  const take = async (steps: number): Promise<void> => {
    for (let i = 0; i < steps; i++) {
      const next = (training: typeof trainings[number], rank: number): Promise<TrainingState<Mlp>> =>
        training.next(states[rank], batch);
      states.splice(0, 2, ...await Promise.all(trainings.map(next)));
    }
  };
  await take(6);
  assertEquals(await madeWhile(() => take(1)), { createCommandEncoder: 2, beginComputePass: 2, finish: 2 });
  // Besides, each rank submits a copy to the host, one back, and the mean.
  assertEquals(await madeWhile(() => take(1)), { createCommandEncoder: 8, beginComputePass: 4, finish: 8 });
  for (const training of trainings) training[Symbol.dispose]();
  states.forEach(freeState);
});
