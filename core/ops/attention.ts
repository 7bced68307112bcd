/**
 * Scaled dot-product attention with grouped key heads.
 *
 * @module
 */

import { attention as attentionKernel } from "../../kernels/attention/forward.ts";
import { attentionGradKV, attentionGradQ } from "../../kernels/attention/backward.ts";
import { attentionTiling } from "../../kernels/attention/tiling.ts";
import { visiblePairs } from "../../kernels/attention/frame.ts";
import { checkOptions, refuse } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { tensor } from "../sources.ts";
import { sameShape, type StoredSpec } from "../spec.ts";
import { apply, checkFloats, checkTensor, type Op, pick, type Tensor } from "../tensor.ts";
import { add, multiply, subtract } from "./arithmetic.ts";
import { broadcast, sum } from "./broadcast.ts";
import { where } from "./comparison.ts";
import { exp, log } from "./functions.ts";
import { f16Bindings } from "./half_precision.ts";
import { matmul } from "./matmul.ts";
import { max, softmax } from "./reduce.ts";
import { permute, reshape } from "./movement.ts";

/** Options of {@link attention}. */
export interface AttentionOptions {
  /** Factor of the scores; `1 / sqrt(D)` when absent. */
  readonly scale?: number;
  /** Whether a position sees only itself and earlier positions; true when absent. */
  readonly causal?: boolean;
  /** Number of positions visible to each, itself included; all when absent or null. */
  readonly window?: number | null;
}

/** Attributes of {@link attentionOp}. */
export interface AttentionAttrs {
  readonly scale: number;
  readonly causal: boolean;
  readonly window: number | null;
}

/** Attributes of the gradients: the number of partial results to add up; a single result when absent. */
export interface AttentionGradAttrs extends AttentionAttrs {
  readonly parts?: number;
}

/** Sizes of queries and keys, as the kernels need them. */
export function attentionSizes([q, k]: readonly StoredSpec[], attrs: AttentionAttrs) {
  const [batch, time, heads, dim] = q.shape;
  return { batch, time, keys: k.shape[1], heads, kvHeads: k.shape[2], dim, ...attrs };
}

/** Number of visible pairs of a query and a key. */
function pairs(inputs: readonly StoredSpec[], attrs: AttentionAttrs): number {
  const shape = attentionSizes(inputs, attrs), { keys, causal, window } = shape;
  return visiblePairs({ shape, keys, causal: causal || window !== null, window });
}

/** Inputs: queries, keys and values. Outputs: the result, and the log-sum-exp of each row of scores. */
export const attentionOp: Op<AttentionAttrs> = {
  name: "attention",
  batch: ([q]) => ({ parts: q.shape[0], inputs: ["split"] }),
  infer([q, k, v], { causal, window }) {
    const shapes = [q.shape, k.shape, v.shape];
    checkFloats("attention", [q, k, v]);
    const fits = q.shape.length === 4 && k.shape.length === 4 && sameShape(k.shape, v.shape) &&
      q.shape[0] === k.shape[0] && q.shape[3] === k.shape[3] && q.shape[2] % k.shape[2] === 0;
    if (!fits) {
      const rule = "queries must be [B, T, H, D], keys and values [B, S, G, D] with G dividing H";
      throw new ShapeError("attention", rule, shapes);
    }
    if ((causal || window !== null) && k.shape[1] < q.shape[1]) {
      throw new ShapeError(
        "attention",
        "a causal query needs a key at its position, so S must be at least T",
        shapes,
      );
    }
    return [{ shape: q.shape, dtype: "f32" }, { shape: q.shape.slice(0, 3), dtype: "f32" }];
  },
  pullbacks: [
    (context) => apply(attentionGradQOp, gradInputs(context), context.attrs),
    (context) =>
      addHeads(apply(attentionGradKVOp, gradInputs(context), context.attrs), context.inputs[1].shape),
    (context) =>
      addHeads(
        pick(apply(attentionGradKVOp, gradInputs(context), context.attrs), 1),
        context.inputs[2].shape,
      ),
  ],
  kernel({ inputs, outputs, attrs, target }) {
    const size = attentionSizes(inputs, attrs), f16 = f16Bindings(inputs, outputs);
    const tiling = attentionTiling(size, { ...target, pass: "forward" });
    return { kernel: attentionKernel({ ...size, ...tiling, f16 }), writes: [0, 1] };
  },
  matmulFlops: (inputs, _, attrs) => 4 * inputs[0].shape[3] * pairs(inputs, attrs),
  definition([q, k, v], attrs) {
    const { batch, time, keys, heads, kvHeads, dim } = attentionSizes([q, k], attrs);
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
    const scores = multiply(matmul(ahead(q), repeated(k), { transposeB: true }), attrs.scale);
    const masked = where(visible(time, keys, attrs), scores, -1e30);
    const out = matmul(softmax(masked), repeated(v));
    const top = max(masked, -1);
    const lse = add(top, log(sum(exp(subtract(masked, reshape(top, [...top.shape, 1]))), -1)));
    return [
      permute(reshape(out, [batch, heads, time, dim]), [0, 2, 1, 3]),
      permute(reshape(lse, [batch, heads, time]), [0, 2, 1]),
    ];
  },
};

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

interface GradContext {
  readonly inputs: readonly Tensor[];
  readonly output: Tensor;
  readonly gradient: Tensor;
}

/** q, k, v, gradient of the output, log-sum-exp, and the sum of gradient * output over each head row. */
function gradInputs({ inputs, output, gradient }: GradContext): Tensor[] {
  return [...inputs, gradient, pick(output, 1), sum(multiply(gradient, output), -1)];
}

/** Sums gradients of query heads [B, S, H, D] to gradients of key heads [B, S, G, D]. */
function addHeads(shares: Tensor, shape: readonly number[]): Tensor {
  const [batch, keys, kvHeads, dim] = shape;
  return reshape(sum(reshape(shares, [batch, keys, kvHeads, shares.shape[2] / kvHeads, dim]), 3), shape);
}

const inParts = (shape: readonly number[], { parts }: AttentionGradAttrs): readonly number[] =>
  parts === undefined ? shape : [parts, ...shape];

/** Inputs: those of {@link gradInputs}. Output: the gradient by the queries. */
export const attentionGradQOp: Op<AttentionGradAttrs> = {
  name: "attentionGradQ",
  infer: ([q], attrs) => [{ shape: inParts(q.shape, attrs), dtype: "f32" }],
  kernel({ inputs, outputs, attrs, target }) {
    const size = attentionSizes(inputs, attrs), f16 = f16Bindings(inputs, outputs);
    const tiling = { ...attentionTiling(size, { ...target, pass: "gradQ" }), parts: attrs.parts };
    return { kernel: attentionGradQ({ ...size, ...tiling, f16 }) };
  },
  matmulFlops: (inputs, _, attrs) => 6 * inputs[0].shape[3] * pairs(inputs, attrs),
};

/** Inputs: those of {@link gradInputs}. Outputs: the gradients by keys and by values, one for each query head. */
export const attentionGradKVOp: Op<AttentionGradAttrs> = {
  name: "attentionGradKV",
  infer([q, k], attrs) {
    const shape = inParts([k.shape[0], k.shape[1], q.shape[2], k.shape[3]], attrs);
    return [{ shape, dtype: "f32" }, { shape, dtype: "f32" }];
  },
  kernel({ inputs, outputs, attrs, wanted: [k, v], target }) {
    const size = attentionSizes(inputs, attrs), reads = k ? [0, 1, 2, 3, 4, 5] : [0, 1, 3, 4];
    const f16 = f16Bindings(reads.map((i) => inputs[i]), outputs.slice(k ? 0 : 1, v ? 2 : 1));
    const tiling = { ...attentionTiling(size, { ...target, pass: "gradKV" }), parts: attrs.parts };
    return { kernel: attentionGradKV({ ...size, ...tiling, f16, outputs: { k, v } }), reads };
  },
  matmulFlops(inputs, _, attrs, wanted) {
    const products = wanted[0] ? (wanted[1] ? 8 : 6) : 4;
    return products * inputs[0].shape[3] * pairs(inputs, attrs);
  },
};

/**
 * Attention: `softmax(q k^T * scale) v`, in one pass without a T x S matrix in memory.
 *
 * Source: Vaswani et al., arXiv 1706.03762, equation 1; Ainslie et al., arXiv 2305.13245 (grouped heads); Dao et al.,
 * arXiv 2205.14135 (online softmax).
 *
 * @param q f32 [B, T, H, D]
 * @param options Keys f32 [B, S, G, D], values of the same shape, and which of them are visible; G divides H
 * @returns f32 [B, T, H, D]
 * @throws {ShapeError} When the shapes do not fit, or a causal query has no key at its position
 * @throws {InputError} When an option is out of range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { attention, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const q = tensor([0, 0], [1, 2, 1, 1]); // scores of 0: the mean of the values seen so far
 * const v = tensor([1, 3], [1, 2, 1, 1]);
 * assertEquals([...await read(gpu, attention(q, { k: q, v }))], [1, 2]);
 * ```
 */
export function attention(
  q: Tensor,
  options: { readonly k: Tensor; readonly v: Tensor } & AttentionOptions,
): Tensor {
  checkTensor("attention", q, "q");
  checkOptions("attention", options, "its second argument must be a record of k, v and options");
  const { k, v, scale = 1 / Math.sqrt(q.shape[3] ?? 1), causal = true, window = null } = options;
  if (!Number.isFinite(scale)) refuse("attention", '"scale" must be a number', scale);
  if (typeof causal !== "boolean") refuse("attention", '"causal" must be true or false', causal);
  if (window !== null && !(Number.isInteger(window) && window >= 1)) {
    refuse("attention", '"window" must be a whole number above 0, or null', window);
  }
  return apply(attentionOp, [q, k, v], { scale, causal, window });
}
