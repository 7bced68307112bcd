/**
 * Attention in simpler ops: what the fused kernels compute.
 *
 * @module
 */

import { attentionDrops, type DroppedShape } from "../../kernels/attention/dropout.ts";
import { tensor } from "../sources.ts";
import { apply, type Op, type Tensor } from "../tensor.ts";
import { add, cast, multiply, subtract } from "./arithmetic.ts";
import { type AttentionAttrs, attentionSizes, isJoined } from "./attention_sizes.ts";
import { broadcast, sum, sumTo } from "./broadcast.ts";
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
  const [, , v] = inputs, sizes = attentionSizes(inputs, attrs), { batch, heads, time, dim } = sizes;
  const range = attrs.ranges ? boundsOf(cast(inputs[3]), sizes) : null;
  const { scores } = scoresOf(inputs, attrs);
  const masked = where(seenOf(range, sizes), scores, -1e30);
  const weights = softmax(masked), drops = dropsOf(inputs, attrs);
  const all = matmul(drops === null ? weights : multiply(weights, drops), byHead(v, sizes));
  const top = max(masked, -1);
  const every = add(top, log(sum(exp(subtract(masked, reshape(top, [...top.shape, 1]))), -1)));
  const some = range === null ? null : less(range.first, range.end); // [B H, T, 1], 0 where nothing is seen
  const out = some === null ? all : where(some, all, 0);
  const lse = some === null ? every : where(reshape(some, every.shape), every, 0);
  return [
    permute(reshape(out, [batch, heads, time, dim]), [0, 2, 1, 3]),
    permute(reshape(lse, [batch, heads, time]), [0, 2, 1]),
  ];
}

/**
 * Computes the gradients of attention with all scores in memory.
 *
 * @param inputs Queries, keys, values, gradient of the output, log-sum-exp and the sum of gradient * output of each row; or both
 * numbers with the range of the row [B, T, H, 4], and a bias if there is one
 * @param attrs Masks and cap
 * @returns The gradients by queries, by keys and values (of each query head), and by the bias (of each query)
 */
export function defineAttentionGradients(
  inputs: readonly Tensor[],
  attrs: AttentionAttrs,
): { readonly q: Tensor; readonly k: Tensor; readonly v: Tensor; readonly bias: Tensor } {
  const [q, k, v, gradient, first] = inputs, sizes = attentionSizes(inputs, attrs);
  const { batch, heads, time, keys, dim, scale, bias } = sizes;
  const joined = isJoined(attrs);
  const number = (at: number): Tensor => {
    const lane = joined
      ? slice(first, { starts: [0, 0, 0, at], sizes: [batch, time, heads, 1] })
      : inputs[4 + at];
    return reshape(permute(reshape(lane, [batch, time, heads]), [0, 2, 1]), [batch * heads, time, 1]);
  };
  const seen = seenOf(attrs.ranges ? { first: number(2), end: number(3) } : null, sizes);
  const { scores, slope } = scoresOf(inputs, attrs);
  const weights = exp(where(seen, subtract(scores, number(0)), -1e30));
  const ahead = byHead(gradient, sizes);
  const drops = dropsOf(inputs, attrs), kept = drops === null ? weights : multiply(weights, drops);
  const direct = matmul(ahead, byHead(v, sizes), { transposeB: true });
  const changes = multiply(
    weights,
    subtract(drops === null ? direct : multiply(direct, drops), number(1)),
  );
  const products = multiply(slope === null ? changes : multiply(changes, slope), scale);
  const back = (x: Tensor, count: number): Tensor =>
    permute(reshape(x, [batch, heads, count, dim]), [0, 2, 1, 3]);
  return {
    q: back(matmul(products, byHead(k, sizes)), time),
    k: back(matmul(products, byHead(q, sizes), { transposeA: true }), keys),
    v: back(matmul(kept, ahead, { transposeA: true }), keys),
    bias: sumTo(reshape(changes, [batch, heads, time, keys]), [bias?.[0] ?? 1, bias?.[1] ?? 1, time, keys]),
  };
}

type Sizes = ReturnType<typeof attentionSizes>;

/** Input: the draw. Output: the factors of all weights, [B H, T, S]. */
const attentionDropsOp: Op<DroppedShape> = {
  name: "attentionDrops",
  infer: (_, { batch, heads, time, keys }) => [{ shape: [batch * heads, time, keys], dtype: "f32" }],
  kernel: ({ attrs }) => ({ kernel: attentionDrops(attrs) }),
};

/** The factors of all weights, f32 [B H, T, S]; null without dropout. */
function dropsOf(inputs: readonly Tensor[], attrs: AttentionAttrs): Tensor | null {
  const { dropout: rate } = attrs, { batch, time, keys, heads } = attentionSizes(inputs, attrs);
  return rate === undefined
    ? null
    : apply(attentionDropsOp, [inputs.at(-1)!], { batch, time, keys, heads, rate });
}

/** Rows [B, N, H or G, D] of each query head, [B H, N, D]: query heads share the rows of a key head. */
function byHead(x: Tensor, { heads }: Sizes): Tensor {
  const [batch, rows, own, dim] = x.shape, ahead = permute(x, [0, 2, 1, 3]);
  if (own === heads) return reshape(ahead, [batch * heads, rows, dim]);
  const shared = reshape(ahead, [batch, own, 1, rows, dim]);
  return reshape(broadcast(shared, [batch, own, heads / own, rows, dim]), [batch * heads, rows, dim]);
}

/** Scores [B H, T, S] of the first two inputs, and the last if it is a bias, and the derivative of the cap if there is one. */
function scoresOf(
  inputs: readonly Tensor[],
  attrs: AttentionAttrs,
): { readonly scores: Tensor; readonly slope: Tensor | null } {
  const sizes = attentionSizes(inputs, attrs), { batch, heads, time, keys, softCap, scale } = sizes;
  const scaled = multiply(
    matmul(byHead(inputs[0], sizes), byHead(inputs[1], sizes), { transposeB: true }),
    scale,
  );
  const level = softCap === undefined ? null : tanh(multiply(scaled, 1 / softCap));
  const capped = level === null ? scaled : multiply(level, softCap!);
  const scores = attrs.bias ? add(capped, spread(inputs.at(-1)!, [batch, heads, time, keys])) : capped;
  return { scores, slope: level === null ? null : subtract(1, multiply(level, level)) };
}

/** Repeats a tensor to [B, H, T, S], as [B H, T, S]. */
function spread(x: Tensor, [batch, heads, time, keys]: readonly number[]): Tensor {
  return reshape(broadcast(x, [batch, heads, time, keys]), [batch * heads, time, keys]);
}

/** The first key that a query sees, and the end of those keys: f32 [B H, T, 1]. */
interface Bounds {
  readonly first: Tensor;
  readonly end: Tensor;
}

/** The bounds of ranges [B, T, 2]. */
function boundsOf(ranges: Tensor, { batch, heads, time }: Sizes): Bounds {
  const bound = (at: number): Tensor =>
    spread(
      reshape(slice(ranges, { starts: [0, 0, at], sizes: [batch, time, 1] }), [batch, 1, time, 1]),
      [batch, heads, time, 1],
    );
  return { first: bound(0), end: bound(1) };
}

/** 1 where a query sees a key: f32 [B H, T, S] or [1, T, S]. */
function seenOf(bounds: Bounds | null, { time, keys, causal, window }: Sizes): Tensor {
  if (bounds === null) return visible(time, keys, { causal, window });
  const key = tensor(Float32Array.from({ length: keys }, (_, j) => j), [1, 1, keys]);
  return where(less(key, bounds.first), 0, less(key, bounds.end));
}

/** 1 where query i may see key j: f32 [1, T, S]. */
function visible(
  time: number,
  keys: number,
  { causal, window }: Pick<AttentionAttrs, "causal" | "window">,
): Tensor {
  const mask = new Float32Array(time * keys);
  for (let i = 0; i < time; i++) {
    const at = i + keys - time;
    for (let j = 0; j < keys; j++) {
      mask[i * keys + j] = (!(causal || window) || j <= at) && (!window || j > at - window) ? 1 : 0;
    }
  }
  return tensor(mask, [1, time, keys]);
}
