/** Checkpoints whose device is closed while their file is written. */

import { assert, assertEquals, assertIsError } from "@std/assert";
import { defineTraining, DeviceLostError, type Gpu, sgd, type TrainingState } from "@firn/train";
import { checkpointKeeper, saveCheckpoint } from "@firn/train/checkpoint";
import { type FileSystem, memoryFileSystem } from "@firn/train/data";
import { openTestGpu } from "../reference/open_gpu.ts";
import { type Mlp, mlpLoss, newMlp, type Pairs } from "./tiny.ts";

const path = "run.safetensors";

/** A file system on which something happens before a chunk of the device is written. */
function meanwhile(real: FileSystem, before: (chunk: Uint8Array) => Promise<void>): FileSystem {
  return {
    ...real,
    async write(to, content, options) {
      async function* chunks(): AsyncGenerator<Uint8Array, void, undefined> {
        let header = true;
        for await (const chunk of content as AsyncIterable<Uint8Array>) {
          if (!header) await before(chunk);
          header = false;
          // What is gone has no bytes.
          yield chunk.length === 0 ? new Uint8Array() : chunk;
        }
      }
      await real.write(to, chunks(), options);
    },
  };
}

type Save = (options: {
  readonly gpu: Gpu;
  readonly state: TrainingState<Mlp>;
  readonly fileSystem: FileSystem;
}) => Promise<void>;

/** Saves twice, the second time with the device closed meanwhile; what is there at the end must be whole. Gives the failure. */
async function closing(save: Save, gone: (chunk: Uint8Array) => void): Promise<unknown> {
  const gpu = await openTestGpu(), real = memoryFileSystem();
  const training = defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer: sgd({ learningRate: 0.1 }),
    steps: 3,
  });
  const state = await training.init(newMlp());
  await save({ gpu, state, fileSystem: real });
  const before = await real.read(path);
  const fileSystem = meanwhile(real, async (chunk) => {
    await gpu[Symbol.asyncDispose]();
    gone(chunk);
  });
  const failure = await save({ gpu, state, fileSystem }).then(() => null, (error) => error);
  assertEquals(await real.read(path), before);
  assertEquals((await real.list(".")).map(({ name }) => name), [path]);
  return failure;
}

Deno.test("a device that is closed while a checkpoint is written leaves a whole file, or the save says so", async () => {
  const failure = await closing(
    ({ gpu, state, fileSystem }) => saveCheckpoint(gpu, state, { path, keep: 1, fileSystem }),
    () => {},
  );
  assert(failure === null || failure instanceof DeviceLostError, `${failure}`);
});

Deno.test("a copy that a closed device takes with it, as Dawn's does, becomes no file of fewer bytes", async () => {
  const save: Save = async ({ gpu, state, fileSystem }) => {
    const keeper = checkpointKeeper<Mlp>(gpu, { path, every: 1, keep: 1, fileSystem });
    await keeper.save(state);
  };
  const detach = ({ buffer }: Uint8Array): void => {
    structuredClone(buffer, { transfer: [buffer as ArrayBuffer] });
  };
  assertIsError(await closing(save, detach), DeviceLostError, "was closed");
});
