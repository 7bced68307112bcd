/**
 * Measures the time of each kernel of a training step.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import type { Gpu } from "../../runtime/device.ts";
import { checkTimestamps, type KernelTime, profile } from "../../runtime/profile.ts";
import { withRollback } from "../state/snapshot.ts";
import type { TensorTree } from "../../tree.ts";
import type { TrainingState } from "../types.ts";
import type { StepExecutor } from "./executor.ts";

/**
 * Takes the last step once more, with timestamps and while no other step is taken, then restores what it changed.
 *
 * @param gpu The device
 * @param options What took the step, the state after it, and the owner of its buffers
 * @returns One row a launch, in order
 * @throws {InputError} When the device has no timestamps, or the last step was of another run or froze something
 * @throws {ConsumedError} When a step has consumed the state
 * @throws {OutOfMemoryError} When the device has no room for a copy of the state
 */
export async function profileStep<P extends TensorTree>(
  gpu: Gpu,
  { executor, state, owner }: {
    readonly executor: StepExecutor;
    readonly state: TrainingState<P>;
    readonly owner: object | undefined;
  },
): Promise<KernelTime[]> {
  checkTimestamps(gpu);
  return await executor.exclusive(async () => {
    const last = executor.lastOf(owner);
    if (last === null || state.event !== null) {
      throw new InputError(
        "Cannot profile as the last step must be of this state and have frozen nothing: take a step and profile its state",
      );
    }
    if (last.sums !== null) {
      throw new InputError(
        'Cannot profile as a step must be one batch: it has parts; profile without "accumulate"',
      );
    }
    const { recording, compiled: { ages } } = last;
    try {
      return await withRollback(gpu, state, () => profile(gpu, { recording, step: state.step, ages }));
    } finally {
      recording.copyWeights();
    }
  });
}
