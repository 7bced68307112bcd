/**
 * Firn trains and fine-tunes transformers on Deno's native WebGPU.
 *
 * Tensor operations are pure functions that build a graph, training is a reducer over steps, and a freeze policy
 * removes converged components from the gradient graph.
 *
 * ```ts
 * import { adamW, defineTraining, nextTokenLoss, openGpu, scan } from "@firn/train";
 * import { loadTokenizer, packDocuments, tokenWindows } from "@firn/train/data";
 * import { loadModel } from "@firn/train/hub";
 * import { gradES } from "@firn/train/policies";
 *
 * await using gpu = await openGpu();
 * const folder = "examples/models/sotu"; // any Hugging Face folder of a Llama
 * const model = await loadModel(gpu, folder), tokenizer = await loadTokenizer(folder);
 * const ids = packDocuments(tokenizer, Array(100).fill("Call me Ishmael."));
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
 * ## Architecture
 *
 * A {@link Tensor} is an immutable node: an op, its inputs, attributes, a shape and a type. Functions make nodes and compute
 * nothing. {@link grad} adds nodes only on paths from what is wanted to the loss, so that freezing is the absence of a
 * request: a freeze policy shrinks what is wanted, and nothing below training knows the word "frozen".
 *
 * A step of training goes through four stages:
 *
 * 1. `core/train/step` traces it: the loss, its gradients, clipping, the optimizer and the signals of the policy are one graph.
 * 2. `core/plan` turns the graph into launches. `core/plan/plan.ts` lists its passes: rewrite, choose precision, fuse, lower to
 *    WGSL, order, lay out memory. It sees no device and is tested without one.
 * 3. `core/runtime` gives the plan buffers and pipelines and records it, once for each set of frozen components.
 * 4. Every later step replays the recording in one compute pass. Losses and signals are read back every `lookEvery` steps.
 *
 * Everything with memory is `{ init, next }`: training, optimizers, policies. State is tensors and JSON, so a checkpoint
 * continues bit for bit. An op is a record that says what it is; what a pass does with it stands in that pass's table.
 *
 * An import leads only up this table: a folder imports from its own row and from the rows above. Policies take nothing
 * but types from `core`, so that a policy needs no GPU. `tests/architecture_test.ts` checks both, and the table.
 *
 * | folder | what stands there |
 * | --- | --- |
 * | `kernels` | WGSL as pure functions of shapes and choices: elementwise, reductions, embedding, cross-entropy, random numbers |
 * | `kernels/attention` | attention and its gradients: direct, tiled, staged |
 * | `kernels/experts` | rows sorted by expert, and their products with the matrices of experts |
 * | `kernels/matmul` | matrix products: direct, tiled, their variants and epilogues |
 * | `core` | shapes, tensors and op records, the sources of a graph, trees, errors, graph walks, `grad`, the interface of policies |
 * | `core/ops` | public functions on tensors, each beside its record and its pullbacks |
 * | `core/nn` | parameter specifications and blocks that families share: linear with LoRA, attention, MLP, norms, rotary tables |
 * | `core/models` | families (one file each) and tasks (next token, classes, images) |
 * | `core/optim` | optimizers, clipping, schedules of rates |
 * | `core/host` | the only folder that touches the machine: files behind an interface |
 * | `core/ranks` | several processes that train one model: the interface, and MPI behind it |
 * | `core/data` | safetensors, batches |
 * | `core/data/chat` | templates of chats, and which tokens are answers |
 * | `core/data/rows` | rows of files: JSON, CSV, Parquet; what each teaches |
 * | `core/data/samples` | token ids of rows, padded or packed to batches |
 * | `core/data/gguf` | files of llama.cpp: their metadata as the files of a model folder, their tensors under its names |
 * | `core/data/text` | text that is read and tokenized piece by piece |
 * | `core/data/tokenizer` | tokenizers of Hugging Face, and what begins and ends a text |
 * | `core/plan` | from a graph to launches: the list of passes, types, predicates, precision |
 * | `core/plan/rewrite` | passes that rewrite the graph: definitions, simplification, parts of attention, residuals |
 * | `core/plan/fuse` | which nodes share a kernel, within the limits of bindings, and their expressions |
 * | `core/plan/lower` | from a group of nodes to WGSL and a grid |
 * | `core/plan/memory` | the order of launches and which buffers share memory |
 * | `core/plan/prefix` | what a frozen bottom makes of a sample, and where to cut the graph to cache it |
 * | `core/runtime` | the device, buffers, pipelines, recording and replay, reads |
 * | `core/tune` | measures which product kernel is fastest on this device |
 * | `core/infer` | evaluation, generation, functions that are recorded once, reading tensors |
 * | `core/objectives` | losses of preferences, of a teacher, of rewards; references, and batches of pairs |
 * | `core/train` | the training loop, checkpoints |
 * | `core/train/freeze` | components, their costs and signals, looks, decisions, thawing, the prefix cache |
 * | `core/train/state` | the tensors of a state, snapshots, best weights |
 * | `core/train/step` | the graph of a step, its plans, its executor, loss scaling |
 * | `core/hub` | a model hub and the cache of Hugging Face: names, requests, transfers |
 * | `core/huggingface` | model folders and adapters of Hugging Face: load, save, merge |
 * | `core/checkpoint` | states as files: saved whole, kept by a rule, read again |
 * | `core/evaluation` | metrics and sets while a model trains, the best step |
 * | `core/report` | the log of a run, and the page and the explanation made of it |
 * | `policies` | freeze policies: plain functions of plain data |
 *
 * @module
 */

export * from "./core/errors.ts";
export {
  type ConvertedData,
  fill,
  type HostData,
  leaf,
  type StepFunction,
  stepScalar,
  tensor,
} from "./core/sources.ts";
export { type DType, sizeOf, type Spec } from "./core/spec.ts";
export type { Op, Tensor } from "./core/tensor.ts";
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
export { add, cast, divide, multiply, negate, subtract } from "./core/ops/arithmetic.ts";
export { broadcast, type ReduceOptions, sum } from "./core/ops/broadcast.ts";
export { clamp, equal, less, maximum, minimum, where } from "./core/ops/comparison.ts";
export { crossEntropy } from "./core/ops/cross_entropy.ts";
export { embedding } from "./core/ops/embedding.ts";
export { abs, exp, log, sigmoid, sqrt, tanh } from "./core/ops/functions.ts";
export { matmul, type MatmulAttrs } from "./core/ops/matmul.ts";
export { concat, permute, reshape, slice } from "./core/ops/movement.ts";
export { dropout, type RandomOptions } from "./core/ops/random.ts";
export { max, mean } from "./core/ops/reduce.ts";
export type { Operand } from "./core/ops/elementwise.ts";
export {
  type Counts,
  type Gpu,
  type GpuOptions,
  type OnProgress,
  openGpu,
  type Tuning,
  type WebGpu,
} from "./core/runtime/device.ts";
export { survivingLoss } from "./core/runtime/surviving_loss.ts";
export { free } from "./core/runtime/residents.ts";
export { read, readAll } from "./core/infer/read.ts";
export type { KernelTime } from "./core/runtime/profile.ts";
export type { Cost, Precision } from "./core/plan/types.ts";
export type {
  Family,
  FeatureOptions,
  Head,
  HiddenOptions,
  ImageInput,
  Task,
  TokenInput,
} from "./core/models/family.ts";
export type { ModelAdapter } from "./core/models/adapter.ts";
export { countLabels, type Loss, type LossMode, type LossOn } from "./core/models/loss.ts";
export type { Families, Model, ModelDescription } from "./core/models/model.ts";
export type { Regularization } from "./core/models/regularize.ts";
export {
  type ClassBatch,
  classLoss,
  features,
  type ImageBatch,
  logits,
  nextTokenLoss,
  type TokenBatch,
} from "./core/models/tasks.ts";
export { adamW, type AdamWOptions } from "./core/optim/adamw.ts";
export { clipByGlobalNorm, type ClipOptions, globalNorm } from "./core/optim/clip.ts";
export {
  chain,
  type Moment,
  type MomentMeaning,
  type Optimizer,
  type OptimizerStep,
} from "./core/optim/optimizer.ts";
export type { AdamMomentOptions } from "./core/optim/adam_step.ts";
export type { PathPattern } from "./core/optim/glob.ts";
export {
  constantRate,
  cosine,
  type DecayOptions,
  linearRate,
  type Schedule,
  type ScheduleOptions,
} from "./core/optim/schedules.ts";
export { sgd, type SgdOptions } from "./core/optim/sgd.ts";
export type { WeightDecayOptions } from "./core/optim/weight_decay.ts";
export type {
  AnySignal,
  Component,
  ComponentCost,
  FreezePolicy,
  Json,
  Look,
  Measurable,
  Reason,
  RunInfo,
  Signal,
  SignalDefinition,
  SignalTerms,
} from "./core/policy.ts";
export * from "./core/train/types.ts";
export * from "./core/train/memory.ts";
export type * from "./core/train/parameter_exchange.ts";
export type { SkippedSteps } from "./core/train/skipped_steps.ts";
export type { MappedMemory } from "./core/host/mapped_memory.ts";
export type { Ranks } from "./core/train/ranks.ts";
export type { MatmulTile, MatmulVariant } from "./kernels/matmul/types.ts";
export type { MatrixDialect, MatrixUnit } from "./kernels/matrix_unit.ts";
export { defineTraining } from "./core/train/training.ts";
export { freeState } from "./core/train/state/free_state.ts";
export { snapshot } from "./core/train/state/snapshot.ts";
export { scan } from "./core/train/scan.ts";
export { evaluate, type Evaluated, type EvaluateOptions } from "./core/infer/evaluate.ts";
