/**
 * The linear layer: the one place that knows LoRA.
 *
 * @module
 */

import { add, multiply } from "../ops/arithmetic.ts";
import { matmul } from "../ops/matmul.ts";
import { reshape } from "../ops/movement.ts";
import type { Tensor } from "../tensor.ts";

/** Parameters of a linear layer, named as in PyTorch and PEFT. */
export interface LinearParams {
  /** f32 or bf16 [out, in]. */
  readonly weight: Tensor;
  /** f32 [out]. */
  readonly bias?: Tensor;
  /** f32 [r, in]. */
  readonly lora_A?: { readonly weight: Tensor };
  /** f32 [out, r]. */
  readonly lora_B?: { readonly weight: Tensor };
}

/**
 * `x W^T + b`, plus `scale (x A^T) B^T` where the layer has a LoRA pair.
 *
 * Source: Hu et al., "LoRA", arXiv 2106.09685, equation 3.
 *
 * @param x f32 [..., in]
 * @param params The layer's parameters
 * @param options `loraScale`: alpha / r; 1 when absent
 * @returns f32 [..., out]
 */
export function linear(
  x: Tensor,
  params: LinearParams,
  options: { readonly loraScale?: number } = {},
): Tensor {
  const { weight, bias, lora_A, lora_B } = params;
  const width = x.shape.at(-1)!;
  const rows = reshape(x, [x.shape.reduce((n, d) => n * d, 1) / width, width]);
  let y = matmul(rows, weight, { transposeB: true });
  if (lora_A !== undefined && lora_B !== undefined) {
    const low = matmul(rows, lora_A.weight, { transposeB: true });
    y = add(y, multiply(matmul(low, lora_B.weight, { transposeB: true }), options.loraScale ?? 1));
  }
  if (bias !== undefined) y = add(y, bias);
  return reshape(y, [...x.shape.slice(0, -1), weight.shape[0]]);
}
