/**
 * Pure operations on tensors.
 *
 * @module
 */

export * from "./attention.ts";
export { crossEntropy, IGNORE, nextLabels } from "./cross_entropy.ts";
export * from "./elementwise.ts";
export { embedding } from "./embedding.ts";
export { matmul } from "./matmul.ts";
export { max, mean, softmax, sum, sumEach } from "./reduce.ts";
export { rmsNorm } from "./rms_norm.ts";
export { rotary } from "./rotary.ts";
export { pad, permute, reshape, slice } from "./shape.ts";
