/** When checkpoints are saved, and which stay. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  adamW,
  defineTraining,
  FileError,
  type Gpu,
  InputError,
  scan,
  type Training,
  type TrainingState,
} from "@firn/train";
import { checkpointKeeper, type CheckpointKeeperOptions, loadCheckpoint } from "@firn/train/checkpoint";
import { memoryFileSystem } from "@firn/train/data";
import { openTestGpu } from "../reference/open_gpu.ts";
import { bitsOf, type Mlp, mlpLoss, newMlp, type Pairs, pairs } from "./tiny.ts";

const gpu: Gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const STEPS = 9, batches = pairs(STEPS);

function define(): Training<Mlp, Pairs> {
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer: adamW({ learningRate: 0.05 }),
    steps: STEPS,
    lookEvery: 1,
    validation: { batches: batches.slice(0, 1), every: 3 },
  });
}

/** Steps of the files after a run. */
async function filesAfter(
  options: Omit<CheckpointKeeperOptions, "path" | "fileSystem">,
  each: (state: TrainingState<Mlp>) => void = () => {},
): Promise<Record<string, number>> {
  const fileSystem = memoryFileSystem();
  using training = define();
  await using keeper = checkpointKeeper<Mlp>(gpu, { ...options, path: "run.safetensors", fileSystem });
  for await (const state of scan(training, await training.init(newMlp()), batches)) {
    each(state);
    await keeper.after(state);
  }
  await keeper.flush();
  const files: Record<string, number> = {};
  for (const { name } of await fileSystem.list(".")) {
    files[name] = (await loadCheckpoint(name, { fileSystem })).step;
  }
  return files;
}

Deno.test("a keeper saves every so many steps, keeps the newest, and none of the last step", async () => {
  assertEquals(await filesAfter({ every: 2, keep: 3 }), {
    "run.safetensors": 8,
    "run.1.safetensors": 6,
    "run.2.safetensors": 4,
  });
  assertEquals(await filesAfter({}), {});
});

Deno.test("a keeper saves by time, which begins anew with each checkpoint", async () => {
  let minutes = 0;
  const clock = { minutes: 3, keep: 9, now: () => 60_000 * minutes };
  assertEquals(await filesAfter(clock, () => minutes++), { "run.safetensors": 6, "run.1.safetensors": 3 });
  minutes = 0;
  const both = await filesAfter({ ...clock, every: 4 }, () => minutes++);
  assertEquals(Object.values(both).toSorted(), [3, 4, 7, 8]);
});

Deno.test("a keeper keeps the state of the lowest validation loss, over a resumed run too", async () => {
  const fileSystem = memoryFileSystem(), path = "run.safetensors", best = "run.best.safetensors";
  const states = new Map<number, TrainingState<Mlp>["validation"]>();
  using training = define();
  {
    await using keeper = checkpointKeeper<Mlp>(gpu, { path, best: true, fileSystem });
    for await (const state of scan(training, await training.init(newMlp()), batches)) {
      states.set(state.step, state.validation);
      await keeper.after(state);
    }
  }
  const losses = [3, 6, 9].map((step) => states.get(step)!.loss), lowest = Math.min(...losses);
  const saved = await loadCheckpoint(best, { fileSystem });
  assertEquals([saved.step, saved.validation!.loss], [[3, 6, 9][losses.indexOf(lowest)], lowest]);
  // The keeper of a run that goes on knows it: a state that is worse does not take its place.
  using other = define();
  const worse = 10 * Math.max(...losses);
  {
    await using keeper = checkpointKeeper<Mlp>(gpu, { path, best: true, fileSystem });
    const again = await other.resume(saved) as TrainingState<Mlp>, step = saved.step + 1;
    await keeper.after({ ...again, step, validation: { step, loss: worse } });
    await keeper.flush();
    assertEquals(keeper.best, saved.validation);
  }
  assertEquals((await loadCheckpoint(best, { fileSystem })).step, saved.step);
});

Deno.test("a keeper of a run that begins, or is another, keeps its own best state over that of an earlier run", async () => {
  const fileSystem = memoryFileSystem(), path = "run.safetensors", best = "run.best.safetensors";
  const begin = async (step: number, loss: number, data: string | null): Promise<number> => {
    using training = define();
    const state = await training.next(await training.init(newMlp()), batches[0]);
    await using keeper = checkpointKeeper<Mlp>(gpu, { path, best: true, fileSystem });
    assertEquals(keeper.best, null);
    await keeper.after({
      ...state,
      step,
      validation: { step, loss },
      settings: { ...state.settings, data },
    });
    await keeper.flush();
    return (await loadCheckpoint(best, { fileSystem })).validation!.loss;
  };
  assertEquals(await begin(1, 1, "a"), 1);
  // It begins: what an earlier run had in this folder says nothing.
  assertEquals(await begin(1, 2, "a"), 2);
  // It goes on, and was better before.
  assertEquals(await begin(2, 3, "a"), 2);
  // It goes on with other data, whose losses are others.
  assertEquals(await begin(2, 4, "b"), 4);
});

Deno.test("a keeper writes while the device goes on, and what it wrote is the state that it was given", async () => {
  const real = memoryFileSystem(), gate = Promise.withResolvers<void>();
  let open = false;
  const fileSystem = {
    ...real,
    async rename(from: string, to: string) {
      if (!open) await gate.promise;
      await real.rename(from, to);
    },
  };
  using training = define();
  await using keeper = checkpointKeeper<Mlp>(gpu, { path: "run.safetensors", every: 1, fileSystem });
  let state = await training.next(await training.init(newMlp()), batches[0]);
  const bits = await bitsOf(gpu, state);
  await keeper.after(state);
  assertEquals(await real.stat("run.safetensors"), null, "it is still being written");
  state = await training.next(state, batches[1]);
  open = true;
  gate.resolve();
  await keeper.flush();
  const again = await define().resume(await loadCheckpoint("run.safetensors", { fileSystem: real }));
  assertEquals(await bitsOf(gpu, again), bits);
  assert(state.step === 2);
});

Deno.test("a keeper says that a file could not be written, by the next call", async () => {
  const fileSystem = {
    ...memoryFileSystem(),
    rename: () =>
      Promise.reject(
        new FileError("Cannot write as the disk is full", { path: "run.safetensors", code: "ENOSPC" }),
      ),
  };
  using training = define();
  const keeper = checkpointKeeper<Mlp>(gpu, { path: "run.safetensors", every: 1, fileSystem });
  let state = await training.next(await training.init(newMlp()), batches[0]);
  await keeper.after(state);
  state = await training.next(state, batches[1]);
  await assertRejects(() => keeper.after(state), FileError, "the disk is full");
});

Deno.test("checkpointKeeper refuses numbers out of range", () => {
  for (const wrong of [{ every: 0 }, { minutes: -1 }, { keep: 0 }, { every: NaN }]) {
    assertThrows(() => checkpointKeeper(gpu, { path: "run", ...wrong }), InputError);
  }
});
