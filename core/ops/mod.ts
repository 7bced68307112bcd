/**
 * Pure operations on tensors.
 *
 * @module
 */

export { attention, type AttentionOptions } from "./attention.ts";
export { crossEntropy, IGNORE, nextLabels } from "./cross_entropy.ts";
export {
  abs,
  add,
  broadcast,
  cast,
  divide,
  equal,
  gelu,
  less,
  maximum,
  minimum,
  multiply,
  negate,
  type Operand,
  relu,
  silu,
  subtract,
  where,
} from "./elementwise.ts";
export { embedding } from "./embedding.ts";
export { exp, log, rsqrt, sigmoid, sign, sqrt, tanh } from "./functions.ts";
export { linearCrossEntropy, type LinearCrossEntropyOptions } from "./linear_cross_entropy.ts";
export { matmul, type MatmulAttrs } from "./matmul.ts";
export { dropout, randomNormal, type RandomOptions, randomUniform } from "./random.ts";
export { max, mean, softmax, sum, sumEach } from "./reduce.ts";
export { rmsNorm } from "./rms_norm.ts";
export { rotary } from "./rotary.ts";
export { concat, pad, permute, reshape, slice } from "./shape.ts";
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
