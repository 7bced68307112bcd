/**
 * `reduce` that yields every state.
 *
 * @module
 */

import type { TensorTree } from "../tree.ts";
import type { Training, TrainingState } from "./types.ts";

/**
 * Runs training over batches and yields the state after each step: logging and saving are ordinary code in the loop
 * body. Ends when the state is done or the batches are.
 *
 * @param training The reducer
 * @param state Where to start
 * @param batches One batch a step, or as many as `accumulate` says; the last step may have fewer
 * @returns The states, in order
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { defineTraining, multiply, openGpu, scan, sgd, sum, type Tensor, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const training = defineTraining(
 *   gpu,
 *   ({ w }: { w: Tensor }, { x }: { x: Tensor }) => sum(multiply(w, x)),
 *   { optimizer: sgd({ learningRate: 1 }), steps: 3, lookEvery: 1 },
 * );
 * const batches = [1, 2, 3, 4].map((x) => ({ x: tensor([x]) }));
 * const losses: number[] = [];
 * for await (const state of scan(training, await training.init({ w: tensor([0]) }), batches)) {
 *   losses.push(...state.look!.loss);
 * }
 * assertEquals(losses, [0, -2, -9]);
 * ```
 */
export async function* scan<P extends TensorTree, B extends TensorTree>(
  training: Training<P, B>,
  state: TrainingState<P>,
  batches: Iterable<B> | AsyncIterable<B>,
): AsyncGenerator<TrainingState<P>, void, undefined> {
  let current = state;
  if (current.done) return;
  const { accumulate = 1 } = training;
  let parts: B[] = [];
  for await (const batch of batches) {
    parts.push(batch);
    if (parts.length < accumulate) continue;
    current = await training.next(current, accumulate === 1 ? batch : parts);
    parts = [];
    yield current;
    if (current.done) return;
  }
  if (parts.length > 0) yield await training.next(current, parts);
}
