/**
 * Training as a reducer: `{ init, next }` with `next: (state, batch) => state`.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { Cost } from "../plan/types.ts";
import type { Gpu } from "../runtime/device.ts";
import { storageOf } from "../runtime/residents.ts";
import type { Loss } from "../models/loss.ts";
import { flatten, type Path, type TensorTree, unflatten } from "../tree.ts";
import { largestBatch } from "./largest_batch.ts";
import { checkOptions, checkPrecision } from "./options.ts";
import { initState, resumeState } from "./start.ts";
import { profileStep } from "./step/profile_step.ts";
import { withWeights } from "./state/weights.ts";
import { takeStep } from "./take_step.ts";
import { newTrainer, type Trainer } from "./trainer.ts";
import type { Training, TrainingOptions } from "./types.ts";

/**
 * Defines training: a loss made of pure ops, an optimizer, a freeze policy.
 *
 * The step is traced once for each frozen set and batch shape, and replayed from then on.
 *
 * @param gpu The device
 * @param loss From parameters and a batch to a scalar. It may say how many labels it is the mean of, and what is trained
 * @param options Optimizer, policy, length
 * @returns The reducer
 * @throws {InputError} When a number is out of its range, or validation has no batches, or of different shapes
 * @throws {InputError} When there is no signal that the policy asks for, or it needs moments that the optimizer has not
 * @throws {InputError} When the adapter cannot compute in the precision: f16 needs shader-f16, f32x3 matrix units
 * @throws {InputError} When validation batches differ in names or types
 *
 * @example A line through three points
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { defineTraining, matmul, mean, multiply, openGpu, read, sgd, subtract, type Tensor, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const training = defineTraining(gpu, ({ slope }: { slope: Tensor }, { x, y }: { x: Tensor; y: Tensor }) => {
 *   const error = subtract(matmul(x, slope), y); // [3, 1]
 *   return mean(multiply(error, error));
 * }, { optimizer: sgd({ learningRate: 0.1 }), steps: 50 });
 *
 * const batch = { x: tensor([1, 2, 3], [3, 1]), y: tensor([2, 4, 6], [3, 1]) };
 * let state = await training.init({ slope: tensor([0], [1, 1]) });
 * while (!state.done) state = await training.next(state, batch);
 * assertAlmostEquals((await read(gpu, state.params.slope))[0], 2, 1e-5);
 * ```
 */
export function defineTraining<P extends TensorTree, B extends TensorTree>(
  gpu: Gpu,
  loss: Loss<P, B>,
  options: TrainingOptions<B>,
): Training<P, B> {
  checkOptions(options);
  checkPrecision(gpu, options.precision);
  const trainer = newTrainer(gpu, loss, options);
  const { executor, validator, cache, runs, last } = trainer;
  return {
    init: (params) => initState(trainer, params),
    accumulate: trainer.definition.accumulate,
    async next(state, batch) {
      const params = flatten(state.params);
      for (const tensor of params.values()) storageOf(tensor);
      const parts = Array.isArray(batch) ? batch as readonly B[] : [batch as B];
      return await runs.consume(state, () => takeStep(trainer, { state, params, parts }));
    },
    resume: (saved, options) => resumeState(trainer, saved, options),
    async withWeights(state, use) {
      const params = flatten(state.params), { optimizer } = trainer.definition;
      for (const tensor of params.values()) storageOf(tensor);
      // The weights of the best step, which it ended with, were those already.
      if (typeof state.ending?.best === "number") return await use(state.params);
      const source = { optimizer, params, leaves: state.leaves };
      return await withWeights(
        gpu,
        source,
        (weights) => use(unflatten(weights) as TensorTree as typeof state.params),
      );
    },
    profile: (state) => profileStep(gpu, { executor, state, owner: runs.runOf(state)?.owner }),
    largestBatch: (options) => largestBatch(trainer, options),
    prefix: () => cache?.state() ?? null,
    memory: () => last.memory,
    components: () => last.request?.run.components ?? [],
    info: () => last.request?.run.info ?? null,
    costOf: (frozen, probed = []) => costOf(trainer, { frozen, probed }),
    [Symbol.dispose]() {
      executor.dispose();
      trainer.definition.averages?.destroy();
      validator?.forget();
      trainer.good.free();
    },
  };
}

/** What a step of the last run and batch would cost with another frozen set. */
function costOf<P extends TensorTree>(
  { compiler, last }: Trainer<P>,
  { frozen, probed }: { readonly frozen: readonly Path[]; readonly probed: readonly Path[] },
): Cost {
  if (last.request === null) {
    throw new InputError("Cannot tell the cost as no step was taken: take one first");
  }
  return compiler.compile({ ...last.request, frozen, probed, since: {} }).cost;
}
