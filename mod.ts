/**
 * Firn trains and fine-tunes transformers on Deno's native WebGPU.
 *
 * Tensor operations are pure functions that build a graph, training is a reducer over steps, and a freeze policy
 * removes converged components from the gradient graph.
 *
 * ```ts
 * import { adamW, defineTraining, nextTokenLoss, openGpu, scan } from "@firn/train";
 * import { loadTokenizer, tokenWindows } from "@firn/train/data";
 * import { loadModel } from "@firn/train/hub";
 * import { gradES } from "@firn/train/policies";
 *
 * await using gpu = await openGpu();
 * const folder = "examples/models/sotu"; // any Hugging Face folder of a Llama
 * const model = await loadModel(gpu, folder), tokenizer = await loadTokenizer(folder);
 * const ids = Int32Array.from(tokenizer.encode("Call me Ishmael. ".repeat(100)));
 * const batches = tokenWindows(ids, { length: 16, batch: 2 });
 * const training = defineTraining(gpu, nextTokenLoss(model), {
 *   optimizer: adamW({ learningRate: 1e-3 }),
 *   policy: gradES({ tau: 30, alpha: 0.5 }),
 *   steps: 10,
 * });
 * for await (const state of scan(training, await training.init(model.params), batches.from(1))) {
 *   if (state.look !== null) console.log(state.step, state.look.loss, state.frozen);
 * }
 * ```
 *
 * @module
 */

export * from "./core/errors.ts";
export {
  type DType,
  fill,
  type HostData,
  leaf,
  type Op,
  sizeOf,
  type Spec,
  type StepFunction,
  stepScalar,
  type Tensor,
  tensor,
} from "./core/tensor.ts";
export {
  flatten,
  type Leaves,
  type Mapped,
  mapTree,
  type Path,
  type TensorTree,
  type Tree,
  unflatten,
} from "./core/tree.ts";
export { grad } from "./core/grad.ts";
export * from "./core/ops/mod.ts";
export { linear, type LinearParams, type LoraOptions } from "./core/nn/linear.ts";
export { type RopeConfig, type RopeTables, ropeTables } from "./core/nn/rope.ts";
export { type Counts, type Gpu, type GpuOptions, openGpu, type Tuning } from "./core/runtime/device.ts";
export { free } from "./core/runtime/residents.ts";
export { read, readAll } from "./core/infer/read.ts";
export type { KernelTime } from "./core/runtime/profile.ts";
export type { Cost, Precision } from "./core/plan/types.ts";
export * from "./core/models/mod.ts";
export { adamW, type AdamWOptions } from "./core/optim/adamw.ts";
export { clipByGlobalNorm, type ClipOptions, globalNorm } from "./core/optim/clip.ts";
export {
  chain,
  initMoments,
  type Moment,
  type MomentMeaning,
  momentPath,
  type Optimizer,
  type OptimizerStep,
} from "./core/optim/optimizer.ts";
export { type ParameterGroup, partition, type PathPattern } from "./core/optim/partition.ts";
export {
  constantRate,
  cosine,
  type DecayOptions,
  linearRate,
  type Schedule,
  type ScheduleOptions,
} from "./core/optim/schedules.ts";
export { sgd, type SgdOptions } from "./core/optim/sgd.ts";
export type {
  Component,
  ComponentCost,
  FreezePolicy,
  Json,
  Look,
  Reason,
  RunInfo,
  Signal,
} from "./core/policy.ts";
export * from "./core/train/types.ts";
export type { MatmulTile, MatmulVariant } from "./kernels/matmul/types.ts";
export { defineTraining } from "./core/train/training.ts";
export { type Checkpoint, loadCheckpoint, saveCheckpoint } from "./core/train/checkpoint.ts";
export { snapshot } from "./core/train/state/snapshot.ts";
export { newModel } from "./core/huggingface/new_model.ts";
export { scan } from "./core/train/scan.ts";
export { evaluate, type EvaluateOptions } from "./core/infer/evaluate.ts";
export { generate, type GenerateOptions } from "./core/infer/generate.ts";
