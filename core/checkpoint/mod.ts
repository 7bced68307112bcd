/**
 * States of training as files: saved whole or not at all, kept by a rule, and read again bit for bit.
 *
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { adamW, defineTraining, multiply, openGpu, sum, type Tensor, tensor } from "@firn/train";
 * import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
 * import { memoryFileSystem } from "@firn/train/data";
 *
 * await using gpu = await openGpu();
 * const loss = ({ w }: { w: Tensor }, { x }: { x: Tensor }) => sum(multiply(w, x));
 * const training = defineTraining(gpu, loss, { optimizer: adamW({ learningRate: 0.1 }), steps: 4 });
 * const state = await training.next(await training.init({ w: tensor([1, 2]) }), { x: tensor([3, 4]) });
 * const fileSystem = memoryFileSystem(), path = "run.safetensors";
 * await saveCheckpoint(gpu, state, { path, fileSystem });
 * const resumed = await training.resume(await loadCheckpoint(path, { fileSystem }));
 * assertEquals(resumed.step, 1);
 * ```
 *
 * @module
 */

export { removeCheckpoint, saveCheckpoint } from "./checkpoint.ts";
export { type Checkpoint, loadCheckpoint, type LoadCheckpointOptions } from "./load_checkpoint.ts";
export {
  type CheckpointKeeper,
  checkpointKeeper,
  type CheckpointKeeperOptions,
} from "./checkpoint_keeper.ts";
