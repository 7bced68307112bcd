/**
 * Attention over sequences with padding.
 *
 * @module
 */

import { cast, multiply } from "../ops/arithmetic.ts";
import { where } from "../ops/comparison.ts";
import { matmul } from "../ops/matmul.ts";
import { permute, reshape } from "../ops/movement.ts";
import { softmax } from "../ops/softmax.ts";
import type { Tensor } from "../tensor.ts";

/**
 * Attention in which every query sees the keys that are tokens.
 *
 * @internal
 * @param q f32 [B, T, H, D]
 * @param options Keys and values f32 [B, T, H, D], the mask i32 [B, T], and the factor of the scores
 * @returns f32 [B, T, H, D]
 */
export function maskedAttention(
  q: Tensor,
  { k, v, mask, scale }: {
    readonly k: Tensor;
    readonly v: Tensor;
    readonly mask: Tensor;
    readonly scale?: number;
  },
): Tensor {
  const [batch, time, heads, dim] = q.shape;
  const ahead = (x: Tensor): Tensor => reshape(permute(x, [0, 2, 1, 3]), [batch * heads, time, dim]);
  const scores = multiply(matmul(ahead(q), ahead(k), { transposeB: true }), scale ?? 1 / Math.sqrt(dim));
  const seen = where(
    cast(reshape(mask, [batch, 1, 1, time])),
    reshape(scores, [batch, heads, time, time]),
    -1e30,
  );
  const mixed = matmul(reshape(softmax(seen), [batch * heads, time, time]), ahead(v));
  return permute(reshape(mixed, [batch, heads, time, dim]), [0, 2, 1, 3]);
}
