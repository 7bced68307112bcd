/**
 * The gradients of attention by its queries, keys, values and bias.
 *
 * @module
 */

import { attentionGradKV, attentionGradQ } from "../../kernels/attention/backward.ts";
import { attentionGradBias } from "../../kernels/attention/bias_gradient.ts";
import { attentionTiling } from "../../kernels/attention/tiling.ts";
import { attentionRows } from "../../kernels/attention/visibility.ts";
import { fill } from "../sources.ts";
import { sizeOf } from "../spec.ts";
import { apply, type Op, pick, type PullbackContext, type Tensor } from "../tensor.ts";
import { cast, multiply } from "./arithmetic.ts";
import { defineAttentionGradients } from "./attention_definition.ts";
import { type AttentionAttrs, attentionPairs, attentionSizes, isJoined } from "./attention_sizes.ts";
import { broadcast, sum } from "./broadcast.ts";
import { areHalf, f16Bindings } from "./half_precision.ts";
import { concat, reshape } from "./movement.ts";

/** Attributes of the gradients: the number of partial results to add up; a single result when absent. */
export interface AttentionGradAttrs extends AttentionAttrs {
  readonly parts?: number;
}

/** The gradient by the queries. */
export function attentionQueryGradient(context: PullbackContext<AttentionAttrs>): Tensor {
  return apply(attentionGradQOp, gradInputs(context), context.attrs);
}

/** The gradient by the keys. */
export function attentionKeyGradient(context: PullbackContext<AttentionAttrs>): Tensor {
  const shares = apply(attentionGradKVOp, gradInputs(context), context.attrs);
  return addHeads(shares, context.inputs[1].shape);
}

/** The gradient by the values. */
export function attentionValueGradient(context: PullbackContext<AttentionAttrs>): Tensor {
  const shares = pick(apply(attentionGradKVOp, gradInputs(context), context.attrs), 1);
  return addHeads(shares, context.inputs[2].shape);
}

/** The gradient by the bias. */
export function attentionBiasGradient(context: PullbackContext<AttentionAttrs>): Tensor {
  const each = apply(attentionGradBiasOp, gradInputs(context), context.attrs);
  const { shape } = context.inputs[context.index];
  return shape[2] === each.shape[2] ? each : reshape(sum(each, 2), shape);
}

/**
 * q, k, v, gradient of the output, log-sum-exp, and the sum of gradient * output over each head row; with ranges, a bias or
 * dropout both numbers of a row are in one tensor, and the bias or the draw is the last.
 */
function gradInputs({ inputs, output, gradient, attrs }: PullbackContext<AttentionAttrs>): Tensor[] {
  const operands = [...inputs.slice(0, 3), gradient];
  const numbers = [pick(output, 1), sum(multiply(gradient, output), -1)];
  if (inputs.length === 3) return [...operands, ...numbers];
  const rows = apply(attentionRowsOp, [...numbers, ...(attrs.ranges ? [inputs[3]] : [])], null);
  return [...operands, rows, ...(attrs.bias || attrs.dropout !== undefined ? [inputs.at(-1)!] : [])];
}

/** Sums gradients of query heads [B, S, H, D] to gradients of key heads [B, S, G, D]. */
function addHeads(shares: Tensor, shape: readonly number[]): Tensor {
  const [batch, keys, kvHeads, dim] = shape;
  return reshape(sum(reshape(shares, [batch, keys, kvHeads, shares.shape[2] / kvHeads, dim]), 3), shape);
}

const inParts = (shape: readonly number[], { parts }: AttentionGradAttrs): readonly number[] =>
  parts === undefined ? shape : [parts, ...shape];

/** Splits a gradient where the device has more processors than there are blocks of rows. */
function partsOf(pass: "gradQ" | "gradKV"): Op<AttentionGradAttrs>["inParts"] {
  return (inputs, attrs, { target, half }) => {
    // Matrix units of f16 need no parts.
    const { parts = 1 } = attentionTiling(attentionSizes(inputs, attrs), { ...target, pass, half });
    return parts === 1 ? null : { ...attrs, parts };
  };
}

/** Inputs: log-sum-exp and the sum of gradient * output [B, T, H], and ranges [B, T, 2] if any. Output: [B, T, H, 4]. */
const attentionRowsOp: Op<null> = {
  name: "attentionRows",
  infer: ([{ shape }]) => [{ shape: [...shape, 4], dtype: "f32" }],
  kernel: ({ inputs: [{ shape }, , ranges] }) => ({
    kernel: attentionRows({ rows: sizeOf(shape), heads: shape[2], ranges: ranges !== undefined }),
  }),
  definition([lse, delta, ranges]) {
    const of = (x: Tensor): Tensor => reshape(x, [...lse.shape, 1]);
    const [batch, time, heads] = lse.shape, bounds = [batch, time, heads, 2];
    const range = ranges === undefined
      ? fill(0, bounds)
      : broadcast(reshape(cast(ranges), [batch, time, 1, 2]), bounds);
    return [concat([of(lse), of(delta), range], 3)];
  },
};

/** Inputs: those of {@link gradInputs}. Output: the gradient by the queries. */
export const attentionGradQOp: Op<AttentionGradAttrs> = {
  name: "attentionGradQ",
  half: { reads: [0, 1, 2, 3], writes: [0] },
  inParts: partsOf("gradQ"),
  infer: ([q], attrs) => [{ shape: inParts(q.shape, attrs), dtype: "f32" }],
  kernel({ inputs, outputs, attrs, target }) {
    const size = attentionSizes(inputs, attrs), f16 = f16Bindings(inputs, outputs);
    const half = attrs.parts === undefined && areHalf(inputs.slice(0, 4));
    const tiling = { ...attentionTiling(size, { ...target, pass: "gradQ", half }), parts: attrs.parts };
    return { kernel: attentionGradQ({ ...size, ...tiling, f16 }) };
  },
  definition: (inputs, attrs) => [defineAttentionGradients(inputs, attrs).q],
  matmulFlops: (inputs, _, attrs) => 6 * inputs[0].shape[3] * attentionPairs(inputs, attrs),
};

/** Inputs: those of {@link gradInputs}. Outputs: the gradients by keys and by values, one for each query head. */
export const attentionGradKVOp: Op<AttentionGradAttrs> = {
  name: "attentionGradKV",
  half: { reads: [0, 1, 2, 3], writes: [0, 1] },
  inParts: partsOf("gradKV"),
  infer([q, k], attrs) {
    const shape = inParts([k.shape[0], k.shape[1], q.shape[2], k.shape[3]], attrs);
    return [{ shape, dtype: "f32" }, { shape, dtype: "f32" }];
  },
  kernel({ inputs, outputs, attrs, wanted: [k, v], target }) {
    const size = attentionSizes(inputs, attrs), joined = isJoined(attrs);
    const all = inputs.map((_, i) => i);
    // The gradient by the values needs neither the values nor the sums of gradient * output.
    const reads = k ? all : all.filter((i) => i !== 2 && (joined || i !== 5));
    const f16 = f16Bindings(reads.map((i) => inputs[i]), outputs.slice(k ? 0 : 1, v ? 2 : 1));
    const half = attrs.parts === undefined && areHalf(inputs.slice(0, 4));
    const tiling = { ...attentionTiling(size, { ...target, pass: "gradKV", half }), parts: attrs.parts };
    return { kernel: attentionGradKV({ ...size, ...tiling, f16, outputs: { k, v } }), reads };
  },
  definition(inputs, attrs) {
    const { k, v } = defineAttentionGradients(inputs, attrs);
    return [k, v];
  },
  matmulFlops(inputs, _, attrs, wanted) {
    const products = wanted[0] ? (wanted[1] ? 8 : 6) : 4;
    return products * inputs[0].shape[3] * attentionPairs(inputs, attrs);
  },
};

/** Inputs: those of {@link gradInputs}. Output: the gradient by the bias, of each query. */
export const attentionGradBiasOp: Op<AttentionAttrs> = {
  name: "attentionGradBias",
  half: { reads: [0, 1, 2, 3], writes: [] },
  infer(inputs) {
    const [batch, heads, , keys] = inputs.at(-1)!.shape;
    return [{ shape: [batch, heads, inputs[0].shape[1], keys], dtype: "f32" }];
  },
  kernel({ inputs, outputs, attrs }) {
    const size = attentionSizes(inputs, attrs), f16 = f16Bindings(inputs, outputs);
    return { kernel: attentionGradBias({ ...size, bias: size.bias!, f16 }) };
  },
  definition: (inputs, attrs) => [defineAttentionGradients(inputs, attrs).bias],
  matmulFlops: (inputs, _, attrs) => 4 * inputs[0].shape[3] * attentionPairs(inputs, attrs),
};
