/**
 * What becomes of work whose device is lost.
 *
 * @module
 */

import { DeviceLostError } from "../errors.ts";

/**
 * Does some work, and does it once more where its device was lost: by a crash or an update of the driver, or a reset. The work
 * opens the device, so that it gets a new one, and goes on from its last checkpoint. A device that was closed is not lost. Work
 * that throws what it is told gives up.
 *
 * @param work The work; it is told how the device was lost, null the first time
 * @returns Its result
 * @throws {DeviceLostError} When the device is lost a second time
 *
 * @example A run that goes on
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { DeviceLostError, openGpu, survivingLoss } from "@firn/train";
 *
 * const reached = await survivingLoss(async (lost) => {
 *   await using gpu = await openGpu();
 *   // Here a training resumes from its checkpoint where there is one, and takes steps.
 *   if (lost === null) throw new DeviceLostError(`The device "${gpu.name}" was lost`);
 *   return "the end";
 * });
 * assertEquals(reached, "the end");
 * ```
 */
export async function survivingLoss<R>(work: (lost: DeviceLostError | null) => Promise<R>): Promise<R> {
  try {
    return await work(null);
  } catch (error) {
    const lost = lossIn(error);
    if (lost === null) throw error;
    try {
      return await work(lost);
    } catch (second) {
      const again = lossIn(second);
      if (again === null || again === lost) throw second;
      throw new DeviceLostError(
        `Cannot go on as the device was lost a second time: ${again.message}; look at the log of the driver, ` +
          "take smaller batches or another adapter, and go on from the last checkpoint",
        { cause: second },
      );
    }
  }
}

/** The loss of a device in an error, or in those that it stands for, as where closing what is open failed, too. */
function lossIn(error: unknown): DeviceLostError | null {
  if (error instanceof DeviceLostError) return error.closed ? null : error;
  if (!(error instanceof SuppressedError)) return null;
  return lossIn(error.suppressed) ?? lossIn(error.error);
}
