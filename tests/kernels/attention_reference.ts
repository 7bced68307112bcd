/**
 * Attention in float64, for the tests of its kernels.
 *
 * @module
 */

import type { AttentionShape } from "../../kernels/attention/frame.ts";
import { values } from "./run_kernel.ts";

export interface Arrays {
  readonly q: ArrayLike<number>;
  readonly k: ArrayLike<number>;
  readonly v: ArrayLike<number>;
  readonly dOut: ArrayLike<number>;
  readonly bias?: ArrayLike<number>;
  /** Factors of the weights [B, H, T, S]. */
  readonly drops?: ArrayLike<number>;
}

/** Whether query i of sequence b sees key j. */
export type Sees = (b: number, i: number, j: number) => boolean;

/** What causality and the window of a shape let queries see. */
function seesOf(s: AttentionShape): Sees {
  const before = (s.keys ?? s.time) - s.time;
  return (_, i, j) =>
    (!s.causal || j <= i + before) && (!s.window || (j <= i + before && j > i + before - s.window));
}

/** Attention and its gradients by their definitions, in float64; the gradient by the bias is of each query. */
export function reference(
  s: AttentionShape,
  { q, k, v, dOut, bias = [], drops }: Arrays,
  sees: Sees = seesOf(s),
) {
  const keys = s.keys ?? s.time;
  const [batches, biasHeads, queries] = s.bias ?? [1, 1, 1];
  const dBias = new Float64Array(batches * biasHeads * s.time * keys);
  const out = new Float64Array(s.batch * s.time * s.heads * s.dim);
  const lse = new Float64Array(s.batch * s.time * s.heads);
  const delta = new Float64Array(lse.length);
  const dq = new Float64Array(out.length);
  const dk = new Float64Array(s.batch * keys * s.kvHeads * s.dim);
  const dv = new Float64Array(dk.length);
  for (let b = 0; b < s.batch; b++) {
    for (let h = 0; h < s.heads; h++) {
      const g = Math.floor(h * s.kvHeads / s.heads);
      const plane = (b % batches) * biasHeads + h % biasHeads;
      for (let i = 0; i < s.time; i++) {
        const query = (b * s.time + i) * s.heads + h;
        const seen: { key: number; j: number; score: number; tanh: number }[] = [];
        for (let j = 0; j < keys; j++) {
          if (!sees(b, i, j)) continue;
          const key = (b * keys + j) * s.kvHeads + g;
          let product = 0;
          for (let d = 0; d < s.dim; d++) product += q[query * s.dim + d] * k[key * s.dim + d];
          const tanh = s.softCap === undefined ? 0 : Math.tanh(product * s.scale / s.softCap);
          const score = s.softCap === undefined ? product * s.scale : tanh * s.softCap;
          const more = s.bias === undefined ? 0 : bias[(plane * queries + i % queries) * keys + j];
          seen.push({ key, j, score: score + more, tanh });
        }
        if (seen.length === 0) continue;
        const highest = Math.max(...seen.map(({ score }) => score));
        const total = seen.reduce((sum, { score }) => sum + Math.exp(score - highest), 0);
        lse[query] = highest + Math.log(total);
        const slopes = seen.map(({ key, j, score, tanh }) => {
          const weight = Math.exp(score - lse[query]);
          const factor = drops?.[((b * s.heads + h) * s.time + i) * keys + j] ?? 1;
          let dWeight = 0;
          for (let d = 0; d < s.dim; d++) {
            out[query * s.dim + d] += weight * factor * v[key * s.dim + d];
            dWeight += factor * dOut[query * s.dim + d] * v[key * s.dim + d];
            dv[key * s.dim + d] += weight * factor * dOut[query * s.dim + d];
          }
          return { key, j, weight, dWeight, tanh };
        });
        delta[query] = slopes.reduce((sum, { weight, dWeight }) => sum + weight * dWeight, 0);
        for (const { key, j, weight, dWeight, tanh } of slopes) {
          const change = weight * (dWeight - delta[query]);
          dBias[(plane * s.time + i) * keys + j] += change;
          const slope = change * (1 - tanh * tanh) * s.scale;
          for (let d = 0; d < s.dim; d++) {
            dq[query * s.dim + d] += slope * k[key * s.dim + d];
            dk[key * s.dim + d] += slope * q[query * s.dim + d];
          }
        }
      }
    }
  }
  return { out, lse, delta, dq, dk, dv, dBias };
}

/** Adds up the parts of a gradient. */
export function addParts(all: ArrayLike<number>, parts: number): Float64Array {
  const size = all.length / parts;
  return Float64Array.from(
    { length: size },
    (_, i) => Array.from({ length: parts }, (_, p) => all[p * size + i]).reduce((a, b) => a + b),
  );
}

/** Adds up the shares of the query heads of each key head. */
export function addHeads({ heads, kvHeads, dim }: AttentionShape, shares: ArrayLike<number>): Float64Array {
  const ratio = heads / kvHeads;
  const sums = new Float64Array(shares.length / ratio);
  for (let i = 0; i < shares.length; i++) {
    const head = Math.floor(i / dim);
    sums[Math.floor(head / ratio) * dim + i % dim] += shares[i];
  }
  return sums;
}

export function arrays(s: AttentionShape) {
  const own = s.batch * s.time * s.heads * s.dim;
  const other = s.batch * (s.keys ?? s.time) * s.kvHeads * s.dim;
  return { q: values(own, 1), k: values(other, 2), v: values(other, 3), dOut: values(own, 4) };
}
