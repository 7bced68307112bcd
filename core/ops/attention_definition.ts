/**
 * Attention in simpler ops: what the fused kernels compute.
 *
 * @module
 */

import { tensor } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import { add, cast, multiply, subtract } from "./arithmetic.ts";
import { type AttentionAttrs, attentionSizes } from "./attention_sizes.ts";
import { broadcast, sum } from "./broadcast.ts";
import { less, where } from "./comparison.ts";
import { exp, log, tanh } from "./functions.ts";
import { matmul } from "./matmul.ts";
import { permute, reshape, slice } from "./movement.ts";
import { max } from "./reduce.ts";
import { softmax } from "./softmax.ts";

/**
 * Computes attention with all scores in memory.
 *
 * @param inputs Queries, keys, values, and ranges and a bias where there are any
 * @param attrs Masks and cap
 * @returns The result and the log-sum-exp of each row of scores
 */
export function defineAttention(inputs: readonly Tensor[], attrs: AttentionAttrs): readonly Tensor[] {
  const [q, k, v] = inputs;
  const { batch, time, keys, heads, kvHeads, dim } = attentionSizes(inputs, attrs);
  const ahead = (x: Tensor): Tensor =>
    reshape(permute(x, [0, 2, 1, 3]), [batch * x.shape[2], x.shape[1], dim]);
  const repeated = (x: Tensor): Tensor =>
    reshape(
      broadcast(reshape(permute(x, [0, 2, 1, 3]), [batch, kvHeads, 1, keys, dim]), [
        batch,
        kvHeads,
        heads / kvHeads,
        keys,
        dim,
      ]),
      [batch * heads, keys, dim],
    );
  const scores = finish(
    multiply(matmul(ahead(q), repeated(k), { transposeB: true }), attrs.scale),
    { ...attrs, bias: attrs.bias && spread(inputs.at(-1)!, [batch, heads, time, keys]) },
  );
  const range = attrs.ranges ? boundsOf(inputs[3], [batch, heads, time]) : null;
  const seen = range === null ? visible(time, keys, attrs) : inRange(range, keys);
  const masked = where(seen, scores, -1e30);
  const all = matmul(softmax(masked), repeated(v));
  const top = max(masked, -1);
  const every = add(top, log(sum(exp(subtract(masked, reshape(top, [...top.shape, 1]))), -1)));
  const some = range === null ? null : less(range.from, range.to); // [B H, T, 1], 0 where nothing is seen
  const out = some === null ? all : where(some, all, 0);
  const lse = some === null ? every : where(reshape(some, every.shape), every, 0);
  return [
    permute(reshape(out, [batch, heads, time, dim]), [0, 2, 1, 3]),
    permute(reshape(lse, [batch, heads, time]), [0, 2, 1]),
  ];
}

/** Caps scores [B H, T, S], and adds the bias. */
function finish(
  scores: Tensor,
  { softCap, bias }: { readonly softCap?: number; readonly bias?: Tensor },
): Tensor {
  const capped = softCap === undefined ? scores : multiply(tanh(multiply(scores, 1 / softCap)), softCap);
  return bias === undefined ? capped : add(capped, bias);
}

/** Repeats a tensor to [B, H, T, S], as [B H, T, S]. */
function spread(x: Tensor, [batch, heads, time, keys]: readonly number[]): Tensor {
  return reshape(broadcast(x, [batch, heads, time, keys]), [batch * heads, time, keys]);
}

interface Bounds {
  readonly from: Tensor;
  readonly to: Tensor;
}

/** The bounds of ranges [B, T, 2] for all heads: f32 [B H, T, 1]. */
function boundsOf(ranges: Tensor, [batch, heads, time]: readonly number[]): Bounds {
  const bound = (at: number): Tensor =>
    spread(
      reshape(slice(cast(ranges), { starts: [0, 0, at], sizes: [batch, time, 1] }), [batch, 1, time, 1]),
      [batch, heads, time, 1],
    );
  return { from: bound(0), to: bound(1) };
}

/** 1 where a key is within the range of a query: f32 [B H, T, S]. */
function inRange({ from, to }: Bounds, keys: number): Tensor {
  const key = tensor(Float32Array.from({ length: keys }, (_, j) => j), [1, 1, keys]);
  return where(less(key, from), 0, less(key, to));
}

/** 1 where query i may see key j: f32 [1, T, S]. */
function visible(time: number, keys: number, { causal, window }: AttentionAttrs): Tensor {
  const mask = new Float32Array(time * keys);
  for (let i = 0; i < time; i++) {
    const at = i + keys - time;
    for (let j = 0; j < keys; j++) {
      mask[i * keys + j] = (!(causal || window) || j <= at) && (!window || j > at - window) ? 1 : 0;
    }
  }
  return tensor(mask, [1, time, keys]);
}
