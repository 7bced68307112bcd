/** Runs whose device is lost. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  defineTraining,
  DeviceLostError,
  type Gpu,
  InputError,
  sgd,
  survivingLoss,
  type TrainingState,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { memoryFileSystem } from "@firn/train/data";
import { openTestGpu } from "../reference/open_gpu.ts";
import { bitsOf, type Mlp, mlpLoss, newMlp, pairs } from "./tiny.ts";

const STEPS = 6, batches = pairs(STEPS), path = "c.safetensors";

/** Trains from the last checkpoint, and destroys the device within some steps. */
function trainer(losses: readonly number[]) {
  const fileSystem = memoryFileSystem(), begun: number[] = [], left = [...losses];
  const work = async (): Promise<Record<string, readonly number[]>> => {
    await using gpu = await openTestGpu();
    using training = defineTraining(gpu, mlpLoss, {
      optimizer: sgd({ learningRate: 0.1 }),
      steps: STEPS,
      lookEvery: 1,
    });
    let state = await fileSystem.stat(path) === null
      ? await training.init(newMlp())
      : await training.resume(await loadCheckpoint(path, { fileSystem })) as TrainingState<Mlp>;
    begun.push(state.step);
    while (!state.done) {
      if (state.step + 1 === left[0]) gpu.device.destroy(), left.shift();
      state = await training.next(state, batches[state.step]);
      if (state.step % 2 === 0) await saveCheckpoint(gpu, state, { path, fileSystem });
    }
    return await bitsOf(gpu, state);
  };
  return { work, begun };
}

Deno.test("survivingLoss opens a lost device once more: a run goes on from its checkpoint, to the same bits", async () => {
  const expected = await trainer([]).work(), { work, begun } = trainer([6]), seen: (string | null)[] = [];
  const found = await survivingLoss((lost) => {
    seen.push(lost?.name ?? null);
    return work();
  });
  assertEquals(found, expected);
  assertEquals([begun, seen], [[0, 4], [null, "DeviceLostError"]]);
});

Deno.test("survivingLoss says what helps where the device is lost a second time", async () => {
  const { work, begun } = trainer([3, 5]);
  const error = await assertRejects(
    () => survivingLoss(work),
    DeviceLostError,
    "lost a second time: The device",
  );
  assert(error.message.endsWith("go on from the last checkpoint"), error.message);
  assertEquals(begun, [0, 2]);
});

Deno.test("survivingLoss repeats nothing else: other errors, and devices that were closed", async () => {
  let runs = 0;
  await assertRejects(
    () => survivingLoss(() => Promise.reject(new InputError(`${++runs}`))),
    InputError,
    "1",
  );
  const closed = async (): Promise<void> => {
    runs++;
    const gpu: Gpu = await openTestGpu();
    await gpu[Symbol.asyncDispose]();
    gpu.check();
  };
  await assertRejects(() => survivingLoss(closed), DeviceLostError, "was closed");
  assertEquals(runs, 2);
});

Deno.test("resume names the adapter that a run moves from, until its next step", async () => {
  await using gpu = await openTestGpu();
  const fileSystem = memoryFileSystem();
  const training = defineTraining(gpu, mlpLoss, { optimizer: sgd({ learningRate: 0.1 }), steps: STEPS });
  const state = await training.next(await training.init(newMlp()), batches[0]);
  await saveCheckpoint(gpu, state, { path, fileSystem });
  const saved = await loadCheckpoint(path, { fileSystem });
  assertEquals("movedFrom" in await training.resume(saved), false);
  const elsewhere = { ...saved, chosen: { adapter: "Another GPU", variants: saved.chosen!.variants } };
  const moved = await training.resume(elsewhere) as TrainingState<Mlp>;
  assertEquals(moved.movedFrom, "Another GPU");
  const next = await training.next(moved, batches[1]);
  assertEquals(["movedFrom" in next, next.chosen.adapter], [false, gpu.name]);
});
