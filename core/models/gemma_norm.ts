/**
 * The norm of Gemma models.
 *
 * @module
 */

import { type NormOptions, type NormParams, type NormSpec, rmsNorm } from "../nn/norm.ts";
import { zeros } from "../nn/params.ts";
import { add } from "../ops/arithmetic.ts";
import type { Tensor } from "../tensor.ts";

/**
 * Declares a norm whose gain is added to one.
 *
 * @param size Channels
 * @returns The declaration
 */
export function gemmaNormParams(size: number): NormSpec {
  return { weight: zeros([size]) };
}

/**
 * Divides each row by its root mean square, then multiplies by one plus the gain.
 *
 * @param x f32 [..., C]
 * @param params The gain
 * @param options The constant in the root
 * @returns f32 [..., C]
 */
export function gemmaNorm(x: Tensor, { weight }: NormParams, options: NormOptions): Tensor {
  return rmsNorm(x, { weight: add(weight, 1) }, options);
}
