/**
 * Values of weights that are stored in fewer bytes than f32.
 *
 * @module
 */

import { isPacked } from "../spec.ts";
import { apply, checkTensor, dequantizeOp, type Tensor } from "../tensor.ts";

/**
 * Widens a tensor to f32. Ops that do not read it as it is stored do this by themselves.
 *
 * @param x A tensor of any type
 * @returns f32 of the same shape; other types than bf16, f16, int8 and nf4 stay
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { leaf } from "@firn/train";
 * import { dequantize } from "@firn/train/ops";
 *
 * assertEquals(dequantize(leaf("weight", { shape: [8, 64], dtype: "nf4" })).dtype, "f32");
 * ```
 */
export function dequantize(x: Tensor): Tensor {
  checkTensor("dequantize", x, "x");
  return isPacked(x.dtype) ? apply(dequantizeOp, [x], null) : x;
}
