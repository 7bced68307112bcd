/**
 * Normalisation layers.
 *
 * @module
 */

import { layerNorm as layerNormOp } from "../ops/layer_norm.ts";
import { rmsNorm as rmsNormOp } from "../ops/rms_norm.ts";
import type { Tensor } from "../tensor.ts";
import { ones, optional, type ParamSpec, zeros } from "./params.ts";

/** A norm, named as in PyTorch. */
export interface Norm<T> {
  /** f32 [C], the gain. */
  readonly weight: T;
  /** f32 [C]. */
  readonly bias?: T;
}

/** Declaration of a norm. */
export type NormSpec = Norm<ParamSpec>;

/** Parameters of a norm. */
export type NormParams = Norm<Tensor>;

/** Options of {@link rmsNorm} and {@link layerNorm}. */
export interface NormOptions {
  /** Added to the mean square or the variance. */
  readonly eps: number;
}

/**
 * Declares a norm.
 *
 * @param size Channels
 * @param options `bias`: whether it adds one; false when absent
 * @returns The declaration
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { normParams } from "@firn/train/nn";
 *
 * assertEquals(normParams(4).weight, { shape: [4], init: "ones" });
 * ```
 */
export function normParams(size: number, { bias = false }: { readonly bias?: boolean } = {}): NormSpec {
  return { weight: ones([size]), bias: optional(bias, zeros([size])) };
}

/**
 * Divides each row by its root mean square, then multiplies by the gain.
 *
 * Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv 1910.07467, equation 4.
 *
 * @param x f32 [..., C]
 * @param params The gain
 * @param options The constant in the root
 * @returns f32 [..., C]
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { rmsNorm } from "@firn/train/nn";
 *
 * await using gpu = await openGpu();
 * const y = rmsNorm(tensor([3, 3], [1, 2]), { weight: tensor([1, 2]) }, { eps: 0 });
 * assertEquals([...await read(gpu, y)], [1, 2]);
 * ```
 */
export function rmsNorm(x: Tensor, { weight }: NormParams, { eps }: NormOptions): Tensor {
  return rmsNormOp(x, weight, { eps });
}

/**
 * Shifts and scales each row to mean 0 and variance 1, then multiplies by the gain and adds the bias.
 *
 * Source: Ba et al., "Layer Normalization", arXiv 1607.06450, equation 3.
 *
 * @param x f32 [..., C]
 * @param params The gain, and the bias if there is one
 * @param options The constant in the root
 * @returns f32 [..., C]
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { layerNorm } from "@firn/train/nn";
 *
 * await using gpu = await openGpu();
 * const y = layerNorm(tensor([1, 3], [1, 2]), { weight: tensor([2, 2]), bias: tensor([0, 1]) }, { eps: 0 });
 * assertEquals([...await read(gpu, y)], [-2, 3]);
 * ```
 */
export function layerNorm(x: Tensor, { weight, bias }: NormParams, { eps }: NormOptions): Tensor {
  return layerNormOp(x, { weight, bias, eps });
}
