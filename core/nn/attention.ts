/**
 * Multi-head self-attention.
 *
 * Axes: B batch, T time, C channels, H query heads, G key heads, D head size.
 *
 * @module
 */

import { attention } from "../ops/attention.ts";
import { rotary } from "../ops/rotary.ts";
import { reshape } from "../ops/movement.ts";
import type { Tensor } from "../tensor.ts";
import { type Linear, linear, linearParams, type LoraOptions } from "./linear.ts";
import { type Norm, normParams, rmsNorm } from "./norm.ts";
import { optional, type ParamSpec } from "./params.ts";
import type { RopeTables } from "./rope.ts";

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
  /** [D], over each head of the queries. */
  readonly q_norm?: Norm<T>;
  /** [D], over each head of the keys. */
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

/** Options of {@link selfAttention}. */
export interface SelfAttentionOptions extends HeadSizes, LoraOptions {
  /** Tables of rotary positions; no position enters when absent. */
  readonly rope?: RopeTables;
  /** Whether a position sees only itself and what is before; true when absent. */
  readonly causal?: boolean;
  /** How many positions one sees, itself included; all when absent or null. */
  readonly window?: number | null;
  /** Added to the mean square in the norms of queries and keys; 1e-6 when absent. */
  readonly eps?: number;
}

/**
 * Declares self-attention.
 *
 * @param sizes Channels, heads
 * @param options Which projections add a bias, and whether queries and keys are normalised; none when absent
 * @returns The declaration
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { attentionParams } from "@firn/train/nn";
 *
 * const spec = attentionParams({ hiddenSize: 8, heads: 4, kvHeads: 2, headDim: 2 }, { qkNorm: true });
 * assertEquals([spec.k_proj.weight.shape, spec.q_norm!.weight.shape], [[4, 8], [2]]);
 * ```
 */
export function attentionParams(
  { hiddenSize: c, heads, kvHeads, headDim: d }: HeadSizes & { readonly hiddenSize: number },
  options: { readonly qkvBias?: boolean; readonly outBias?: boolean; readonly qkNorm?: boolean } = {},
): AttentionSpec {
  const { qkvBias: bias, outBias, qkNorm = false } = options;
  return {
    q_proj: linearParams([heads * d, c], { bias }),
    k_proj: linearParams([kvHeads * d, c], { bias }),
    v_proj: linearParams([kvHeads * d, c], { bias }),
    o_proj: linearParams([c, heads * d], { bias: outBias }),
    q_norm: optional(qkNorm, normParams(d)),
    k_norm: optional(qkNorm, normParams(d)),
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
 * import { fill, ropeTables } from "@firn/train";
 * import { selfAttention } from "@firn/train/nn";
 *
 * const weight = fill(0.1, [8, 8]), key = fill(0.1, [4, 8]);
 * const params = { q_proj: { weight }, k_proj: { weight: key }, v_proj: { weight: key }, o_proj: { weight } };
 * const rope = ropeTables({ theta: 10000, dim: 2 }, { length: 3 });
 * const y = selfAttention(fill(1, [1, 3, 8]), params, { heads: 4, kvHeads: 2, headDim: 2, rope, window: 2 });
 * assertEquals(y.shape, [1, 3, 8]);
 * ```
 */
export function selfAttention(x: Tensor, params: AttentionParams, options: SelfAttentionOptions): Tensor {
  const { heads, kvHeads, headDim, rope, causal, window, eps = 1e-6 } = options;
  const [batch, time] = x.shape;
  const project = (layer: Linear<Tensor>, count: number): Tensor =>
    reshape(linear(x, layer, options), [batch, time, count, headDim]);
  const place = (y: Tensor, norm?: Norm<Tensor>): Tensor => {
    const scaled = norm === undefined ? y : rmsNorm(y, norm, { eps });
    return rope === undefined ? scaled : rotary(scaled, rope);
  };
  const q = place(project(params.q_proj, heads), params.q_norm); // [B, T, H, D]
  const k = place(project(params.k_proj, kvHeads), params.k_norm); // [B, T, G, D]
  const v = project(params.v_proj, kvHeads); // [B, T, G, D]
  const mixed = attention(q, { k, v, causal, window });
  return linear(reshape(mixed, [batch, time, heads * headDim]), params.o_proj, options);
}
