/**
 * The compute kernels of Firn: pure functions from shapes and tuning to WGSL text and a grid. They see no device.
 *
 * `matmul` has two implementations, and `attention` four:
 *
 * | | where | how |
 * | --- | --- | --- |
 * | direct | software adapters | operands straight from storage, no workgroup memory |
 * | tiled | GPUs | tiles in workgroup memory: of both matrices, or of whole rows of queries, keys and values |
 * | staged (attention) | GPUs with many workgroups | 16 steps of a product at a time in workgroup memory |
 * | on matrix units (attention) | GPUs with matrix units, rows of f16 | subgroups multiply tiles in workgroup memory |
 *
 * All variants of a kernel give the same result up to rounding; a choice (`attentionTiling`, `chooseMatmul`) recommends one.
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
export { attentionGradBias, type AttentionGradBiasOptions } from "./attention/bias_gradient.ts";
export { attentionTiling } from "./attention/tiling.ts";
export {
  attentionRanges,
  type AttentionRangesOptions,
  attentionRows,
  type Limit,
} from "./attention/visibility.ts";
export type { AttentionPass, AttentionShape, AttentionTiling, MatrixTiling } from "./attention/frame.ts";
export {
  compactOrder,
  type CompactOrderOptions,
  gatherRows,
  type GatherRowsOptions,
  scatterRows,
} from "./compact_rows.ts";
export {
  crossEntropy,
  crossEntropyGrad,
  type CrossEntropyGradOptions,
  type CrossEntropyOptions,
  type Scores,
} from "./cross_entropy.ts";
export { cumsum, type CumsumOptions } from "./cumsum.ts";
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
export { integers } from "./integers.ts";
export type { Kernel } from "./kernel.ts";
export { flip, type FlipOptions } from "./flip.ts";
export { gather, type GatherOptions, scatterAdd } from "./gather.ts";
export { layerNorm, type LayerNormGradOptions, layerNormGradX, type LayerNormOptions } from "./layer_norm.ts";
export * from "./matmul/matmul.ts";
export * from "./matmul/types.ts";
export { type MatrixProducts, matrixProducts } from "./matmul/matrix_products.ts";
export type { MatrixDialect, MatrixUnit } from "./matrix_unit.ts";
export type { Predicted, ProductSizes } from "./matmul/predict.ts";
export type { Magnitudes } from "./matmul/magnitudes.ts";
export type { MatrixOptions } from "./matmul/matrix_variants.ts";
export { chooseMatmul, matmulVariants, type VariantOptions } from "./matmul/variants.ts";
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
export { tanhText } from "./tanh.ts";
export type { Packed, Stored } from "./packed.ts";
export type { Blocked } from "./blocks.ts";
export { rotary, type RotaryOptions } from "./rotary.ts";
export { rowThreads, type Threads } from "./rows.ts";
export { softmax, softmaxGrad, type SoftmaxOptions } from "./softmax.ts";
export { topK, type TopKOptions } from "./top_k.ts";
export {
  foldWindows,
  type Pair as WindowPair,
  windowCounts,
  type WindowOptions,
  windows,
} from "./windows.ts";
