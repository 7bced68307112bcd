/**
 * A trainer of one's own on the library alone: accumulation, an average of the weights, checkpoints that a run goes on from, and
 * a run that survives a batch which is not finite.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/trainer.ts examples/models/sotu text.txt out/trainer
 * ```
 *
 * @module
 */

import {
  chain,
  clipByGlobalNorm,
  defineTraining,
  nextTokenLoss,
  NotFoundError,
  openGpu,
  scan,
} from "@firn/train";
import { checkpointKeeper, loadCheckpoint } from "@firn/train/checkpoint";
import { hostFileSystem, loadTokenizer, tokenWindows } from "@firn/train/data";
import { loadModel, saveModel } from "@firn/train/hub";
import { muon, warmupStableDecay, weightAverage } from "@firn/train/optim";
import { print } from "./print.ts";

/** What to train, on what, and for how long. */
export interface TrainerOptions {
  /** Folder of the model. */
  readonly model: string;
  /** Text to learn. */
  readonly text: string;
  /** Folder for the checkpoint, and for the model after it. */
  readonly out: string;
  /** Steps of two batches each. */
  readonly steps: number;
  readonly batch: number;
  readonly length: number;
}

/**
 * Trains a model, from its last checkpoint where there is one.
 *
 * @param options What to train
 * @returns Losses of the steps that were taken
 */
export async function train(
  { model: folder, text, out, steps, batch, length }: TrainerOptions,
): Promise<number[]> {
  await using gpu = await openGpu();
  const model = await loadModel(gpu, folder), tokenizer = await loadTokenizer(folder);
  const windows = tokenWindows(Int32Array.from(tokenizer.encode(text)), { length, batch });
  const learningRate = warmupStableDecay({ peak: 2e-3, warmup: Math.ceil(steps / 10), steps });
  using training = defineTraining(gpu, nextTokenLoss(model, { zLoss: 1e-4 }), {
    optimizer: chain(clipByGlobalNorm(1), muon({ learningRate }), weightAverage(0.9)),
    steps,
    lookEvery: Math.min(10, steps),
    accumulate: 2,
    nonFinite: "rollback",
    data: windows.fingerprint,
  });
  await hostFileSystem().makeFolder(out, { parents: true });
  const path = `${out}/checkpoint.safetensors`, losses: number[] = [];
  await using keeper = checkpointKeeper<typeof model.params>(gpu, { path, every: 50, minutes: 10, keep: 3 });
  const saved = await loadCheckpoint(path).catch((error) => {
    if (error instanceof NotFoundError) return null;
    throw error;
  });
  let state = saved === null
    ? await training.init(model.params)
    : await training.resume(saved) as Awaited<ReturnType<typeof training.init>>;
  for await (state of scan(training, state, windows.from(state.step * training.accumulate + 1))) {
    losses.push(...state.look?.loss ?? []);
    if (state.look !== null) print(`step ${state.step}: loss ${state.look.loss.at(-1)!.toFixed(3)}`);
    if (state.rolledBack !== undefined) print(`back at step ${state.step}: ${state.rolledBack.why}`);
    await keeper.after(state);
  }
  // The average of the weights is what is saved.
  await training.withWeights(
    state,
    (params) => saveModel(gpu, { ...model, params }, { folder: `${out}/model` }),
  );
  return losses;
}

if (import.meta.main) {
  const [model, file, out] = Deno.args;
  await train({ model, text: await Deno.readTextFile(file), out, steps: 100, batch: 4, length: 64 });
}
