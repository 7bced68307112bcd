/**
 * Scaled dot-product attention with grouped key heads.
 *
 * @module
 */

import { attention as attentionKernel } from "../../kernels/attention/forward.ts";
import { singleQueryAttention } from "../../kernels/attention/single_query.ts";
import { attentionTiling } from "../../kernels/attention/tiling.ts";
import { checkOptions, refuse } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { sameShape, type Spec } from "../spec.ts";
import { apply, checkFloats, checkTensor, type Op, type Tensor } from "../tensor.ts";
import { defineAttention } from "./attention_definition.ts";
import {
  attentionBiasGradient,
  attentionKeyGradient,
  attentionQueryGradient,
  attentionValueGradient,
} from "./attention_gradients.ts";
import { type AttentionLimits, rangesOf } from "./attention_ranges.ts";
import { type AttentionAttrs, attentionPairs, attentionSizes } from "./attention_sizes.ts";
import { areHalf, f16Bindings } from "./half_precision.ts";
import { checkRate, dropoutDraw } from "./random.ts";

/** Options of {@link attention}. A query that sees no key gives 0. */
export interface AttentionOptions extends AttentionLimits {
  /** Factor of the scores; `1 / sqrt(D)` when absent. */
  readonly scale?: number;
  /** Whether a position sees only itself and earlier positions; true when absent. */
  readonly causal?: boolean;
  /** Number of positions visible to each, itself included; all when absent or null. Makes the attention causal. */
  readonly window?: number | null;
  /** Bound of the scores, which become `softCap * tanh(score / softCap)`, as in Gemma 2; none when absent or null. */
  readonly softCap?: number | null;
  /** Added to the scores after the cap, f32 [B|1, H|1, T|1, S], as in T5 or ALiBi; it gets a gradient. None when absent. */
  readonly bias?: Tensor;
  /** Dropout of the weights, in training only; none when absent. */
  readonly dropout?: AttentionDropout;
}

/** Which weights of attention are dropped: another draw at each step. */
export interface AttentionDropout {
  /** The share of zeros, at least 0 and below 1; whole 65536ths count. */
  readonly rate: number;
  /** A whole number of 32 bits. */
  readonly seed: number;
  /** Tells attentions apart; 0 when absent. */
  readonly stream?: number;
}

/**
 * Inputs: queries, keys and values, then ranges of keys, and a bias or the draw of dropout, where there are any. Outputs: the result, and the
 * log-sum-exp of each row of scores.
 */
export const attentionOp: Op<AttentionAttrs> = {
  name: "attention",
  half: { reads: [0, 1, 2], writes: [0] },
  range: { result: "bounded", reads: "bounded" },
  batch: (inputs, { dropout }) =>
    dropout !== undefined ? null : ({
      parts: inputs[0].shape[0],
      inputs: inputs.map(({ shape }) => shape[0] === inputs[0].shape[0] ? "split" : "shared"),
    }),
  infer(inputs, attrs) {
    const [q, k, v] = inputs, shapes = [q.shape, k.shape, v.shape];
    checkFloats("attention", [q, k, v]);
    const fits = q.shape.length === 4 && k.shape.length === 4 && sameShape(k.shape, v.shape) &&
      q.shape[0] === k.shape[0] && q.shape[3] === k.shape[3] && q.shape[2] % k.shape[2] === 0;
    if (!fits) {
      const rule = "queries must be [B, T, H, D], keys and values [B, S, G, D] with G dividing H";
      throw new ShapeError("attention", rule, shapes);
    }
    if ((attrs.causal || attrs.window !== null) && k.shape[1] < q.shape[1]) {
      throw new ShapeError(
        "attention",
        "a causal query needs a key at its position, so S must be at least T",
        shapes,
      );
    }
    if (attrs.bias) checkBias(inputs.at(-1)!, [q.shape[0], q.shape[2], q.shape[1], k.shape[1]]);
    return [{ shape: q.shape, dtype: "f32" }, { shape: q.shape.slice(0, 3), dtype: "f32" }];
  },
  // No gradient flows to ranges, so that every input after the values is the bias.
  pullbacks: [attentionQueryGradient, attentionKeyGradient, attentionValueGradient, attentionBiasGradient],
  kernel({ inputs, outputs, attrs, target }) {
    const size = attentionSizes(inputs, attrs), f16 = f16Bindings(inputs, outputs);
    if (size.time === 1 && size.bias === undefined && attrs.dropout === undefined && f16.length === 0) {
      const threads = target.software ? 32 : 256;
      return { kernel: singleQueryAttention({ ...size, threads }), writes: [0, 1] };
    }
    const tiling = attentionTiling(size, { ...target, pass: "forward", half: areHalf(inputs.slice(0, 3)) });
    return { kernel: attentionKernel({ ...size, ...tiling, f16 }), writes: [0, 1] };
  },
  matmulFlops: (inputs, _, attrs) => 4 * inputs[0].shape[3] * attentionPairs(inputs, attrs),
  definition: defineAttention,
};

/** Checks a bias against [B, H, T, S]. */
function checkBias({ shape, dtype }: Spec, full: readonly number[]): void {
  const fits = dtype === "f32" && shape.length === 4 && shape[3] === full[3] &&
    shape.every((size, axis) => size === full[axis] || size === 1);
  if (fits) return;
  const [b, h, t, s] = full;
  throw new ShapeError(
    "attention",
    `"bias" must be f32 of shape [${b} or 1, ${h} or 1, ${t} or 1, ${s}]; it is ${dtype}`,
    [shape],
  );
}

/**
 * Attention: `softmax(q k^T * scale) v`, in one pass without a T x S matrix in memory.
 *
 * Query i sits at key `i + offset`. It sees the keys that `causal`, `window`, `lengths`, `starts`, `segments` and `positions`
 * all let it see; kernels skip the tiles that no query of theirs sees.
 *
 * Source: Vaswani et al., arXiv 1706.03762, equation 1; Ainslie et al., arXiv 2305.13245 (grouped heads); Dao et al.,
 * arXiv 2205.14135 (online softmax).
 *
 * @param q f32 [B, T, H, D]
 * @param options Keys f32 [B, S, G, D], values of the same shape, which of them are visible, and how scores are made; G
 * divides H
 * @returns f32 [B, T, H, D]
 * @throws {ShapeError} When the shapes do not fit, or a causal query has no key at its position
 * @throws {InputError} When an option is out of range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fill, openGpu, read, reshape, tensor } from "@firn/train";
 * import { attention } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const q = tensor([0, 0], [1, 2, 1, 1]); // scores of 0: the mean of the values seen so far
 * const v = tensor([1, 3], [1, 2, 1, 1]);
 * assertEquals([...await read(gpu, attention(q, { k: q, v }))], [1, 2]);
 *
 * // Two documents in one row, and two sequences of which the second is shorter.
 * const four = fill(0, [1, 4, 1, 1]), values = tensor([1, 3, 5, 9], [1, 4, 1, 1]);
 * const segments = tensor(new Int32Array([7, 7, 8, 8]), [1, 4]);
 * assertEquals([...await read(gpu, attention(four, { k: four, v: values, segments }))], [1, 2, 5, 7]);
 * const two = fill(0, [2, 2, 1, 1]), lengths = tensor(new Int32Array([2, 1]));
 * const pairs = reshape(values, [2, 2, 1, 1]);
 * const seen = attention(two, { k: two, v: pairs, lengths, causal: false, softCap: 50 });
 * assertEquals([...await read(gpu, seen)], [2, 2, 5, 5]);
 * ```
 */
export function attention(
  q: Tensor,
  options: { readonly k: Tensor; readonly v: Tensor } & AttentionOptions,
): Tensor {
  checkTensor("attention", q, "q");
  checkOptions("attention", options, "its second argument must be a record of k, v and options");
  const { k, v, scale = 1 / Math.sqrt(q.shape[3] ?? 1), causal = true, window = null, bias } = options;
  const { softCap = null, dropout } = options;
  checkTensor("attention", k, "k");
  if (!Number.isFinite(scale)) refuse("attention", '"scale" must be a number', scale);
  if (typeof causal !== "boolean") refuse("attention", '"causal" must be true or false', causal);
  if (window !== null && !(Number.isInteger(window) && window >= 1)) {
    refuse("attention", '"window" must be a whole number above 0, or null', window);
  }
  if (softCap !== null && !(Number.isFinite(softCap) && softCap > 0)) {
    refuse("attention", '"softCap" must be a number above 0, or null', softCap);
  }
  if (bias !== undefined) checkTensor("attention", bias, "bias");
  if (dropout !== undefined) checkRate("attention", dropout.rate);
  if (bias !== undefined && dropout !== undefined && dropout.rate > 0) {
    refuse("attention", '"dropout" of weights must have no "bias" beside it', dropout.rate);
  }
  const ranges = rangesOf(options, { batch: q.shape[0], time: q.shape[1], keys: k.shape[1], causal, window });
  const drops = dropout !== undefined && dropout.rate > 0;
  const inputs = [q, k, v, ...(ranges === null ? [] : [ranges]), ...(bias === undefined ? [] : [bias])];
  const attrs: AttentionAttrs = {
    scale,
    causal,
    window,
    ...(softCap === null ? {} : { softCap }),
    ...(ranges === null ? {} : { ranges: true }),
    ...(bias === undefined ? {} : { bias: true }),
  };
  if (!drops) return apply(attentionOp, inputs, attrs);
  return apply(attentionOp, [...inputs, dropoutDraw("attention", dropout)], {
    ...attrs,
    dropout: dropout.rate,
  });
}
