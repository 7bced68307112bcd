/**
 * The compute kernels of Firn: WGSL text and a grid as pure functions of shapes. They import nothing and see no device.
 *
 * Axis legend: B batch, T queries or positions, S keys, H heads, G key heads, D elements of a head, N rows, C channels,
 * V classes or rows of a table.
 *
 * @module
 */

export { attention, type AttentionOptions } from "./attention/forward.ts";
export {
  attentionGradKV,
  type AttentionGradKVOptions,
  type AttentionGradOptions,
  attentionGradQ,
} from "./attention/backward.ts";
export { type AttentionPass, attentionTiling } from "./attention/tiling.ts";
export type { AttentionShape, AttentionTiling } from "./attention/frame.ts";
export {
  countedFirst,
  type CountedFirstOptions,
  gatherCounted,
  type GatherCountedOptions,
  spreadRows,
} from "./compact_rows.ts";
export {
  crossEntropy,
  crossEntropyGrad,
  type CrossEntropyGradOptions,
  type CrossEntropyOptions,
  type Scores,
} from "./cross_entropy.ts";
export { type Elementwise, elementwise, partialCount } from "./elementwise.ts";
export {
  embedding,
  embeddingGrad,
  type EmbeddingGradOptions,
  type EmbeddingOptions,
  embeddingOrder,
} from "./embedding.ts";
export type { Expression, Operand, Step } from "./expression.ts";
export type { F16Bindings } from "./f16.ts";
export type { Kernel } from "./kernel.ts";
export * from "./matmul/matmul.ts";
export * from "./matmul/types.ts";
export { chooseMatmul, matmulVariants, type ProductSizes, type VariantOptions } from "./matmul/variants.ts";
export { concat, type MovementStorage, pad, permute, shiftLabels, slice } from "./movement.ts";
export {
  dropout,
  normal,
  normalValues,
  type Pair,
  type RandomOptions,
  type RandomValuesOptions,
  threefry2x32,
  uniform,
  uniformValues,
} from "./random.ts";
export {
  collect,
  columnPieces,
  type ColumnSizes,
  reduce,
  reduceThreads,
  type Reduction,
  type Run,
} from "./reduce.ts";
export { rmsNorm, type RmsNormGradOptions, rmsNormGradX, type RmsNormOptions } from "./rms_norm.ts";
export type { Stored } from "./packed.ts";
export { rotary, type RotaryOptions } from "./rotary.ts";
export { rowThreads, type Threads } from "./rows.ts";
