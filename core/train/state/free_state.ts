/**
 * Frees what a state holds on the device.
 *
 * @module
 */

import { free } from "../../runtime/residents.ts";
import type { TensorTree } from "../../tree.ts";
import type { TrainingState } from "../types.ts";

/**
 * Frees all buffers of a state now, not when it is garbage collected: parameters, optimizer state, readings, best weights. A
 * state that a step consumed, or a `snapshot` that is no longer needed, takes as much memory as one in use.
 *
 * @param state The state; a state that a step consumed has nothing left to free
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { adamW, defineTraining, freeState, openGpu, snapshot, sum, type Tensor, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const options = { optimizer: adamW({ learningRate: 0.1 }), steps: 10 };
 * const training = defineTraining(gpu, ({ w }: { w: Tensor }) => sum(w), options);
 * const state = await training.init({ w: tensor([1, 2]) }), before = gpu.counts.bytes;
 * freeState(snapshot(gpu, state));
 * assertEquals(gpu.counts.bytes, before);
 * ```
 */
export function freeState({ params, loss, leaves }: TrainingState<TensorTree>): void {
  free(params);
  free(Object.fromEntries(leaves));
  if (loss !== null) free({ loss });
}
