/**
 * Pure operations on tensors.
 *
 * @module
 */

export { attention, type AttentionOptions } from "./attention.ts";
export { crossEntropy, IGNORE, nextLabels } from "./cross_entropy.ts";
export { gelu, relu, silu } from "./activations.ts";
export { add, cast, divide, multiply, negate, subtract } from "./arithmetic.ts";
export { broadcast } from "./broadcast.ts";
export { equal, less, maximum, minimum, where } from "./comparison.ts";
export { type Operand } from "./elementwise.ts";
export { abs } from "./functions.ts";
export { embedding } from "./embedding.ts";
export { exp, log, rsqrt, sigmoid, sign, sqrt, tanh } from "./functions.ts";
export { linearCrossEntropy, type LinearCrossEntropyOptions } from "./linear_cross_entropy.ts";
export { matmul, type MatmulAttrs } from "./matmul.ts";
export { dropout, randomNormal, type RandomOptions, randomUniform } from "./random.ts";
export { sum, sumEach } from "./broadcast.ts";
export { max, mean, softmax } from "./reduce.ts";
export { rmsNorm } from "./rms_norm.ts";
export { rotary } from "./rotary.ts";
export { concat, pad, permute, reshape, slice } from "./movement.ts";
export type {
  DType,
  ElementText,
  KernelCall,
  KernelRequest,
  KernelText,
  Op,
  Pullback,
  PullbackContext,
  Spec,
  StorageType,
  StoredSpec,
  Target,
  Tensor,
} from "../tensor.ts";
