/**
 * Multi-head self-attention.
 *
 * Axes: B batch, T time, C channels, H query heads, G key heads, D head size.
 *
 * @module
 */

import { attention, type AttentionDropout } from "../ops/attention.ts";
import type { AttentionLimits } from "../ops/attention_ranges.ts";
import { clamp } from "../ops/comparison.ts";
import { rotary } from "../ops/rotary.ts";
import { reshape } from "../ops/movement.ts";
import type { Tensor } from "../tensor.ts";
import { type Linear, linear, linearParams, type LoraOptions } from "./linear.ts";
import { type Norm, type NormOptions, type NormParams, normParams, type NormSpec, rmsNorm } from "./norm.ts";
import { optional, type ParamSpec } from "./params.ts";
import { checkPackedRope, type RopeTables } from "./rope.ts";

/** Self-attention, named as in decoders of Hugging Face. */
export interface Attention<T> {
  /** C to H D. */
  readonly q_proj: Linear<T>;
  /** C to G D. */
  readonly k_proj: Linear<T>;
  /** C to G D. */
  readonly v_proj: Linear<T>;
  /** H D to C. */
  readonly o_proj: Linear<T>;
  /** [D], over each head of the queries, or [H D], over all of them. */
  readonly q_norm?: Norm<T>;
  /** [D], over each head of the keys, or [G D], over all of them. */
  readonly k_norm?: Norm<T>;
}

/** Declaration of self-attention. */
export type AttentionSpec = Attention<ParamSpec>;

/** Parameters of self-attention. */
export type AttentionParams = Attention<Tensor>;

/** Heads and their size. */
export interface HeadSizes {
  /** Query heads H. */
  readonly heads: number;
  /** Key and value heads G; divides H. */
  readonly kvHeads: number;
  /** Elements of a head D. */
  readonly headDim: number;
}

/** Options of {@link attend}. */
export interface AttendOptions {
  /** Tables of rotary positions; no position enters when absent. */
  readonly rope?: RopeTables;
  /** Whether a position sees only itself and what is before; true when absent. */
  readonly causal?: boolean;
  /** How many positions one sees, itself included; all when absent or null. */
  readonly window?: number | null;
  /** Factor of the scores; `1 / sqrt(D)` when absent. */
  readonly scale?: number;
  /** Bound of the scores; none when absent or null. */
  readonly softCap?: number | null;
  /** Added to the scores, f32 [B|1, H|1, T|1, S]; none when absent. */
  readonly bias?: Tensor;
  /** Makes the dropout of the weights, in training only; none when absent. */
  readonly dropout?: () => AttentionDropout;
  /** Which keys each sequence has, besides what causality and window say; all when absent. */
  readonly limits?: AttentionLimits;
}

/** Options of {@link selfAttention}. */
export interface SelfAttentionOptions extends HeadSizes, AttendOptions, LoraOptions {
  /** Added to the mean square in the norms of queries and keys; 1e-6 when absent. */
  readonly eps?: number;
  /** Bound of the elements of queries, keys and values; none when absent or null. */
  readonly clip?: number | null;
  /** The norm of queries and keys where the parameters have one; {@link rmsNorm} when absent. */
  readonly norm?: (x: Tensor, params: NormParams, options: NormOptions) => Tensor;
}

/**
 * Declares self-attention.
 *
 * @param sizes Channels, heads
 * @param options Which projections add a bias, and whether queries and keys are normalised, each head for itself or all
 * heads together; none when absent
 * @returns The declaration
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { attentionParams } from "@firn/train/nn";
 *
 * const spec = attentionParams({ hiddenSize: 8, heads: 4, kvHeads: 2, headDim: 2 }, { qkNorm: "head" });
 * assertEquals([spec.k_proj.weight.shape, spec.q_norm!.weight.shape], [[4, 8], [2]]);
 * ```
 */
export function attentionParams(
  { hiddenSize: c, heads, kvHeads, headDim: d }: HeadSizes & { readonly hiddenSize: number },
  options: { readonly qkvBias?: boolean; readonly outBias?: boolean; readonly qkNorm?: "head" | "all" } = {},
): AttentionSpec {
  const { qkvBias: bias, outBias, qkNorm } = options;
  const norm = (count: number): NormSpec | undefined =>
    optional(qkNorm !== undefined, normParams(qkNorm === "all" ? count * d : d));
  return {
    q_proj: linearParams([heads * d, c], { bias }),
    k_proj: linearParams([kvHeads * d, c], { bias }),
    v_proj: linearParams([kvHeads * d, c], { bias }),
    o_proj: linearParams([c, heads * d], { bias: outBias }),
    q_norm: norm(heads),
    k_norm: norm(kvHeads),
  };
}

/**
 * Projects to heads, normalises queries and keys, applies rotary positions and attention, and projects back.
 *
 * @param x f32 [B, T, C]
 * @param params Projections and norms
 * @param options Heads, rotary tables, causality and window
 * @returns f32 [B, T, C]
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fill } from "@firn/train";
 * import { ropeTables, selfAttention } from "@firn/train/nn";
 *
 * const weight = fill(0.1, [8, 8]), key = fill(0.1, [4, 8]);
 * const params = { q_proj: { weight }, k_proj: { weight: key }, v_proj: { weight: key }, o_proj: { weight } };
 * const rope = ropeTables({ theta: 10000, dim: 2 }, { length: 3 });
 * const y = selfAttention(fill(1, [1, 3, 8]), params, { heads: 4, kvHeads: 2, headDim: 2, rope, window: 2 });
 * assertEquals(y.shape, [1, 3, 8]);
 * ```
 */
export function selfAttention(x: Tensor, params: AttentionParams, options: SelfAttentionOptions): Tensor {
  const { heads, kvHeads, headDim, eps = 1e-6, norm = rmsNorm, clip = null } = options;
  const bounded = (y: Tensor): Tensor => clip === null ? y : clamp(y, { min: -clip, max: clip });
  const [batch, time] = x.shape;
  const project = (layer: Linear<Tensor>, count: number, gain?: Norm<Tensor>): Tensor => {
    const y = linear(x, layer, options), shape = [batch, time, count, headDim];
    if (gain === undefined) return reshape(y, shape);
    // A gain as wide as a head is for each head, a wider one for all of them.
    return gain.weight.shape[0] === headDim
      ? norm(reshape(y, shape), gain, { eps })
      : reshape(norm(y, gain, { eps }), shape);
  };
  const mixed = attend({
    q: bounded(project(params.q_proj, heads, params.q_norm)),
    k: bounded(project(params.k_proj, kvHeads, params.k_norm)),
    v: bounded(project(params.v_proj, kvHeads)),
  }, options);
  return linear(mixed, params.o_proj, options);
}

/** Queries, keys and values by head. */
export interface HeadTensors {
  /** f32 [B, T, H, D]. */
  readonly q: Tensor;
  /** f32 [B, T, G, D]. */
  readonly k: Tensor;
  /** f32 [B, T, G, D]. */
  readonly v: Tensor;
}

/**
 * Applies rotary positions and attention, and joins the heads.
 *
 * @param heads Queries, keys and values
 * @param options Rotary tables, causality, window, scale
 * @returns f32 [B, T, H D]
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fill } from "@firn/train";
 * import { attend } from "@firn/train/nn";
 *
 * const k = fill(1, [1, 3, 2, 8]);
 * assertEquals(attend({ q: fill(1, [1, 3, 4, 8]), k, v: k }).shape, [1, 3, 32]);
 * ```
 */
export function attend({ q, k, v }: HeadTensors, options: AttendOptions = {}): Tensor {
  const { rope, causal, window, scale, softCap, bias, limits } = options, dropout = options.dropout?.();
  if (rope !== undefined && limits?.segments !== undefined) checkPackedRope(rope, q.shape[1]);
  const place = (y: Tensor): Tensor => rope === undefined ? y : rotary(y, rope);
  const [batch, time, heads, dim] = q.shape;
  const mixed = attention(place(q), {
    ...limits,
    k: place(k),
    v,
    causal,
    window,
    scale,
    softCap,
    bias,
    dropout,
  });
  return reshape(mixed, [batch, time, heads * dim]);
}
