/**
 * Checkpoints of ranks that average their parameters: each saves what is its own.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  adamW,
  DataError,
  defineTraining,
  flatten,
  type Gpu,
  InputError,
  openGpu,
  type Ranks,
  read,
  sgd,
  type TrainingOptions,
} from "@firn/train";
import { checkpointKeeper, loadCheckpoint, removeCheckpoint } from "@firn/train/checkpoint";
import { type FileSystem, memoryFileSystem, openSafetensors } from "@firn/train/data";
import { averageParameters } from "@firn/train/ranks";
import { type Batch, loss, type Params, share, START } from "./averaging.ts";
import { ranksInProcess } from "./in_process.ts";

const PATH = "run.safetensors", STEPS = 6;

interface Where {
  readonly fileSystem: FileSystem;
  /** The step after which the run is left. */
  readonly until: number;
  /** Steps between checkpoints. */
  readonly every: number;
}

const options = (ranks: Ranks): TrainingOptions<Batch> => ({
  optimizer: adamW({ learningRate: 0.02 }),
  steps: STEPS,
  lookEvery: 3,
  ranks,
  exchange: averageParameters({
    every: 2,
    outer: sgd({ learningRate: 0.7, momentum: 0.9, nesterov: true }),
    wire: "int8",
  }),
});

/** Takes the steps of a rank, from the start or from its checkpoint, and returns its weights. */
async function walk(gpu: Gpu, ranks: Ranks, { fileSystem, until, every }: Where): Promise<number[][]> {
  using training = defineTraining(gpu, loss, options(ranks));
  const keeper = checkpointKeeper<Params>(gpu, { path: PATH, every, ranks, fileSystem });
  const resumes = await fileSystem.stat(PATH) !== null;
  let state = resumes
    ? await training.resume(await loadCheckpoint(PATH, { fileSystem, ranks })) as Awaited<
      ReturnType<typeof training.init>
    >
    : await training.init(START);
  while (!state.done && state.step < until) {
    state = await training.next(state, share(state.step + 1, ranks));
    await keeper.after(state);
  }
  await keeper.flush();
  return await Promise.all([...flatten(state.params).values()].map(async (t) => [...await read(gpu, t)]));
}

const together = (gpu: Gpu, where: Where, size = 2): Promise<number[][][]> =>
  Promise.all(ranksInProcess(size).map((ranks) => walk(gpu, ranks, where)));

Deno.test("a run of ranks goes on bit for bit, from a step between exchanges and from one that is", async () => {
  await using gpu = await openGpu({ tune: false });
  const whole = await together(gpu, { fileSystem: memoryFileSystem(), until: STEPS, every: 9 });
  for (const until of [3, 4, 5]) {
    const fileSystem = memoryFileSystem();
    await together(gpu, { fileSystem, until, every: 1 });
    assertEquals(await together(gpu, { fileSystem, until: STEPS, every: 9 }), whole);
  }
});

Deno.test("the file of a rank has what is its own, and parameters only between exchanges", async () => {
  await using gpu = await openGpu({ tune: false });
  const fileSystem = memoryFileSystem();
  await together(gpu, { fileSystem, until: 5, every: 1 });
  const namesOf = async (path: string): Promise<string[]> => {
    await using file = await openSafetensors(path, { fileSystem });
    return [...file.names].map((name) => name.replace(/(low|high).weight$/, "W")).filter((name, i, all) =>
      all.indexOf(name) === i
    ).toSorted();
  };
  const own = [
    "leaves.exchange.residual.W",
    "leaves.loss",
    "leaves.optimizer.m.W",
    "leaves.optimizer.v.W",
    "leaves.ring",
  ];
  const shared = ["leaves.exchange.outer.velocity.W", "leaves.exchange.start.W", "params.W"];
  assertEquals(await namesOf(PATH), [...own, ...shared].toSorted());
  assertEquals(await namesOf("run.rank-1.safetensors"), [...own, "params.W"]);
  // Step 4 is one of an exchange.
  assertEquals(await namesOf("run.rank-1.1.safetensors"), own);
  await removeCheckpoint(PATH, { fileSystem });
  assertEquals(await fileSystem.list("."), []);
});

Deno.test("a run goes on from the newest step that all ranks have saved, on as many ranks", async () => {
  await using gpu = await openGpu({ tune: false });
  const fileSystem = memoryFileSystem();
  await together(gpu, { fileSystem, until: 5, every: 1 });
  const stepOf = async (rank: number, size = 2): Promise<number> =>
    (await loadCheckpoint(PATH, { fileSystem, ranks: { rank, size } })).step;
  assertEquals([await stepOf(0), await stepOf(1)], [5, 5]);
  // Rank 1 died before it had written its last one.
  await fileSystem.remove("run.rank-1.safetensors");
  assertEquals([await stepOf(0), await stepOf(1)], [4, 4]);
  await assertRejects(() => stepOf(0, 3), InputError, "it is of 2; start as many");
  await fileSystem.remove("run.rank-1.1.safetensors");
  await assertRejects(() => stepOf(0), DataError, '"run.rank-1.safetensors" has not');
  using training = defineTraining(gpu, loss, {
    optimizer: adamW({ learningRate: 0.02 }),
    steps: STEPS,
    lookEvery: 3,
  });
  const saved = await loadCheckpoint(PATH, { fileSystem });
  await assertRejects(
    () => training.resume(saved),
    InputError,
    '"exchange" is null where that had "parameters every 2',
  );
});

Deno.test("a damaged file of a rank, and one of an earlier run, are passed over for the step before", async () => {
  await using gpu = await openGpu({ tune: false });
  const fileSystem = memoryFileSystem(), newest = "run.rank-1.safetensors";
  await together(gpu, { fileSystem, until: 5, every: 1 });
  const stepOf = async (rank: number): Promise<number> =>
    (await loadCheckpoint(PATH, { fileSystem, ranks: { rank, size: 2 } })).step;
  const whole = await fileSystem.read(newest), put = (bytes: Uint8Array) => fileSystem.write(newest, bytes);
  // Values that were changed are seen by the rank that reads them alone.
  await put(whole.with(whole.length - 1, whole.at(-1)! ^ 1));
  assertEquals(await stepOf(0), 5);
  await assertRejects(() => stepOf(1), InputError, `"${newest}" as what a rank has saved must be whole`);
  await put(whole.slice(0, 100));
  assertEquals([await stepOf(0), await stepOf(1)], [4, 4]);
  const letters = Array.from(whole, (byte) => String.fromCharCode(byte)).join("");
  const other = letters.replace('\\"lookEvery\\":3', '\\"lookEvery\\":2');
  assert(other !== letters);
  await put(Uint8Array.from(other, (letter) => letter.charCodeAt(0)));
  assertEquals([await stepOf(0), await stepOf(1)], [4, 4]);
});

Deno.test("files of ranks from two runs with equal settings are no checkpoint, which is said by name; files without a run are read", async () => {
  await using gpu = await openGpu({ tune: false });
  const newest = "run.rank-1.safetensors";
  const [mine, other] = [memoryFileSystem(), memoryFileSystem()];
  for (const fileSystem of [mine, other]) await together(gpu, { fileSystem, until: 5, every: 1 });
  const stepOf = async (fileSystem: FileSystem): Promise<number> =>
    (await loadCheckpoint(PATH, { fileSystem, ranks: { rank: 1, size: 2 } })).step;
  assertEquals(await stepOf(mine), 5);
  // A seed, or the data, may be another without a word of it in the settings.
  await mine.write(newest, await other.read(newest));
  assertEquals(await stepOf(mine), 4);
  await mine.remove("run.rank-1.1.safetensors");
  await assertRejects(() => stepOf(mine), DataError, `of one run: "${newest}" is of another`);
  // As earlier versions wrote them.
  for (const path of [PATH, newest]) {
    const letters = Array.from(await other.read(path), (byte) => String.fromCharCode(byte)).join("");
    const plain = letters.replace(
      /,\\"run\\":\\"([0-9a-f]{32})\\",\\"checksum\\":\\"[0-9a-f]+\\"/,
      ({ length }) => " ".repeat(length),
    );
    assert(plain !== letters);
    await other.write(path, Uint8Array.from(plain, (letter) => letter.charCodeAt(0)));
  }
  assertEquals(await stepOf(other), 5);
  await mine.write(newest, await other.read(newest));
  await assertRejects(() => stepOf(mine), DataError, `of one run: "${newest}" is of another`);
});

Deno.test("a keeper of several ranks refuses to save by time, and to keep one file", async () => {
  await using gpu = await openGpu({ tune: false });
  const [ranks] = ranksInProcess(2);
  const refusal = (more: { readonly minutes?: number; readonly keep?: number }): Promise<Error> =>
    assertRejects(async () => void await checkpointKeeper(gpu, { path: PATH, ranks, ...more }), InputError);
  assertEquals((await refusal({ minutes: 1 })).message.includes('by "minutes"'), true);
  assertEquals((await refusal({ keep: 1 })).message.includes("at least 2"), true);
});
