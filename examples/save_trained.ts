/**
 * Saving what a run has trained.
 *
 * @module
 */

import type { Gpu, Training, TrainingState } from "@firn/train";
import { saveAdapter, saveModel } from "@firn/train/hub";
import type { Flags } from "./finetune_flags.ts";
import type { Subject } from "./finetune_plan.ts";
import { stage } from "./progress.ts";
import type { Run } from "./run.ts";
import { shardOptions } from "./shard_size.ts";

/**
 * Saves the model, or the adapter alone.
 *
 * @param gpu The device
 * @param run The run
 * @param options What is trained, the training, and its state
 * @returns Where
 */
export async function saveTrained(
  gpu: Gpu,
  { folder }: Run,
  { subject: { base, files }, training, state, flags }: {
    readonly subject: Subject;
    readonly training: Pick<Training<object, never>, "withWeights">;
    readonly state: TrainingState<object>;
    readonly flags: Flags;
  },
): Promise<string> {
  const isAdapter = base.adapter !== undefined, to = `${folder}/${isAdapter ? "adapter" : "model"}`;
  const options = { folder: to, files, ...shardOptions(flags["max-shard-size"]) };
  const save = (params: object): Promise<void> =>
    isAdapter
      ? saveAdapter(gpu, { ...base, params }, { folder: to })
      : saveModel(gpu, { ...base, params }, options);
  await stage(`saving      ${to}`, () => training.withWeights(state, save));
  return to;
}
