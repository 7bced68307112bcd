/**
 * What training does besides steps holds for objectives: parts, values computed again, freezing, resuming.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  defineTraining,
  freeState,
  sgd,
  type TensorTree,
  type TrainingOptions,
  type TrainingState,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { memoryFileSystem } from "@firn/train/data";
import { loadModel } from "@firn/train/hub";
import {
  dpoLoss,
  ktoLoss,
  type Objective,
  pairBatches,
  type SamplePair,
  withReference,
} from "@firn/train/objectives";
import { openTestGpu } from "../reference/open_gpu.ts";
import { scheduled } from "../train/tiny.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const model = await loadModel(gpu, "tests/fixtures/llama");
const row = (seed: number, length: number) => ({
  ids: Int32Array.from({ length }, (_, i) => (seed * 31 + i * 17) % 96),
  learned: Uint8Array.from({ length }, (_, i) => i < 3 ? 0 : 1),
});
const pairs: readonly SamplePair[] = await withReference(gpu, model, {
  pairs: [1, 2, 3, 4].map((seed) => ({
    first: row(seed, 14),
    second: row(seed + 7, 11),
    desirable: seed % 2 === 0,
  })),
});
const batches = pairBatches(pairs, { length: 16, batch: 2, seed: 1 });
const STEPS = 4;

function training(objective: Objective<object, never>, more: Partial<TrainingOptions> = {}) {
  return defineTraining(gpu, objective as never, {
    optimizer: sgd({ learningRate: 0.2, momentum: 0.9 }),
    steps: STEPS,
    lookEvery: 1,
    data: batches.fingerprint,
    ...more as object,
  });
}

async function losses(
  defined: ReturnType<typeof training>,
  given?: TrainingState<TensorTree>,
  until = STEPS,
): Promise<{ readonly losses: readonly number[]; readonly state: TrainingState<TensorTree> }> {
  let state = given ?? await defined.init(model.params as never) as TrainingState<TensorTree>;
  const found: number[] = [];
  while (state.step < until) {
    state = await defined.next(state as never, batches.at(state.step + 1) as never) as TrainingState<
      TensorTree
    >;
    found.push(...state.look!.loss);
  }
  return { losses: found, state };
}

const dpo = dpoLoss(model, { beta: 0.5 }) as unknown as Objective<object, never>;

Deno.test("a run by preferences that is resumed goes on bit for bit, and one with other settings is refused", async () => {
  using whole = training(dpo);
  const all = await losses(whole),
    half = await losses(whole, undefined, 2),
    fileSystem = memoryFileSystem({});
  await saveCheckpoint(gpu, half.state, { path: "c.safetensors", fileSystem });
  const saved = await loadCheckpoint("c.safetensors", { fileSystem });
  using again = training(dpo);
  const rest = await losses(again, await again.resume(saved) as TrainingState<TensorTree>);
  assertEquals([...half.losses, ...rest.losses], [...all.losses]);
  using other = training(dpoLoss(model, { beta: 0.1 }) as unknown as Objective<object, never>);
  const refused = await other.resume(saved).then(() => null, (error) => String(error));
  assert(refused?.includes("model") ?? false, refused ?? "nothing was refused");
  for (const { state } of [all, rest]) freeState(state);
});

Deno.test("a run by preferences in less memory has the same bits, and a frozen layer stays as it is", async () => {
  using whole = training(dpo);
  const all = await losses(whole, undefined, 2);
  using bounded = training(dpo, { memory: 2 ** 40 });
  const roomy = await losses(bounded, undefined, 2), { bytesWithout } = bounded.memory()!;
  using short = training(dpo, { memory: bytesWithout - 1 });
  const tight = await losses(short, undefined, 2);
  assert(short.memory()!.blocks > 0);
  assertEquals(tight.losses, all.losses);
  assertEquals(roomy.losses, all.losses);
  using freezing = training(dpo, {
    policy: scheduled([{ from: 1, frozen: ["model.layers.0.mlp.down_proj"] }]) as never,
  });
  const { state } = await losses(freezing, undefined, 3);
  assertEquals(state.frozen, ["model.layers.0.mlp.down_proj"]);
  for (const { state } of [all, roomy, tight]) freeState(state);
  freeState(state);
});

Deno.test("ktoLoss has a reference point of 0 or more in each step, and learns beside it", async () => {
  const kto = ktoLoss(model, { beta: 0.5, undesirableWeight: 1.5 }) as unknown as Objective<object, never>;
  using defined = training(kto);
  const found = await losses(defined);
  // Good answers cost 0.5 at first, the others 0.75.
  assert(found.losses[0] >= 0.5 - 1e-5 && found.losses[0] <= 0.75 + 1e-5);
  assert(found.state.look!.metrics!.kl[0] >= 0);
  assert(found.losses[2] + found.losses[3] < found.losses[0] + found.losses[1]);
  freeState(found.state);
});
