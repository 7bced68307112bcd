/**
 * Where the time of a training step goes.
 *
 * @module
 */

import type { Gpu } from "../../runtime/device.ts";
import { checkTimestamps, type KernelTime, profile } from "../../runtime/profile.ts";
import { undone } from "../checkpoint.ts";
import type { Replayer } from "./replay.ts";
import type { TensorTree, TrainingState } from "../types.ts";

/**
 * Takes the last step once more, alone and with the device's clock, and puts back what it changed.
 *
 * @param gpu The device
 * @param options Who took the step, the state that it gave, and what the states of that run have in common
 * @returns One row a launch, in order
 * @throws {TypeError} When the device has no timestamps, or the last step was of another run or froze something
 * @throws {ConsumedError} When a step has consumed the state
 * @throws {OutOfMemoryError} When the device has no room for a copy of the state
 */
export async function profileStep<P extends TensorTree>(
  gpu: Gpu,
  { replays, state, owner }: {
    readonly replays: Replayer;
    readonly state: TrainingState<P>;
    readonly owner: object | undefined;
  },
): Promise<KernelTime[]> {
  checkTimestamps(gpu);
  return await replays.alone(async () => {
    const last = replays.lastOf(owner);
    if (last === null || state.event !== null) {
      throw new TypeError(
        "Cannot profile as the last step must be of this state and have frozen nothing: take a step and profile its state",
      );
    }
    const { recording, plan: { starts } } = last;
    return await undone(gpu, state, () => profile(gpu, { recording, step: state.step, starts }));
  });
}
