/**
 * The backward kernels of attention, without atomics: one owns queries, the other owns keys. Both recompute the weights
 * from the saved log-sum-exp, `p = exp(s - lse)`.
 *
 * @module
 */

import { type Kernel, storage } from "../kernel.ts";
import { directGradKV, directGradQ } from "./direct.ts";
import { isMatrixFrame, matrixFrame, matrixStorage } from "./matrix_frame.ts";
import { matrixGradKV, matrixGradQ } from "./matrix_kernels.ts";
import { stagedGradKV, stagedGradQ } from "./staged.ts";
import { tiledGradKV, tiledGradQ } from "./tiled.ts";
import {
  attentionFrame,
  attentionGrid,
  type AttentionShape,
  type AttentionTiling,
  visiblePairs,
} from "./frame.ts";

/** Options of {@link attentionGradQ}. */
export interface AttentionGradOptions extends AttentionShape, AttentionTiling {}

/**
 * Gradient of attention by the queries.
 *
 * Bindings: a0 `q[B,T,H,D]`, a1 `k[B,S,G,D]`, a2 `v[B,S,G,D]`, a3 `dOut[B,T,H,D]`, a4 `lse[B,T,H]`,
 * a5 `delta[B,T,H]`, the sum over D of dOut * out; with `ranges` or a `bias` instead a4 `rows[B,T,H,4]`: lse, delta, and the
 * first key that the query sees and the end of those keys; with `bias` last `bias[B|1,H|1,T|1,S]`; o0 `dq[B,T,H,D]`, or `[P,B,T,H,D]` with P parts.
 *
 * Source: Dao et al. 2022, algorithm 4.
 *
 * @param options Sizes and tiling; `attentionTiling` recommends the tiling
 * @returns The kernel
 * @throws {RangeError} When sizes or tiling do not fit
 */
export function attentionGradQ(options: AttentionGradOptions): Kernel {
  const { batch, time, heads, dim, f16, matrix, tile: length } = options;
  const frame = matrix === undefined
    ? attentionFrame(options, { tiling: options, pass: "gradQ" })
    : matrixFrame(options, { matrix, tile: length, pass: "gradQ" });
  const { type, tile, staged, inputs } = frame;
  const tiled = staged ? stagedGradQ : tiledGradQ;
  return {
    name: `attention_grad_q ${batch}x${time}x${heads}x${dim}`,
    grid: attentionGrid(frame),
    flops: 6 * dim * visiblePairs(frame),
    code: isMatrixFrame(frame)
      ? matrixStorage(frame, [type]) + matrixGradQ(frame)
      : storage(inputs.types, [type], f16) + (tile === 0 ? directGradQ(frame) : tiled(frame)),
  };
}

/** Options of {@link attentionGradKV}. */
export interface AttentionGradKVOptions extends AttentionShape, AttentionTiling {
  /** Which gradients are wanted; at least one. */
  readonly outputs: { readonly k: boolean; readonly v: boolean };
  /**
   * Whether a workgroup adds up the query heads of a key head; false when absent. Only kernels on matrix units can: outputs
   * are then `dk[B,S,G,D]` and `dv[B,S,G,D]`, and the grid is as small as the number of key heads.
   */
  readonly grouped?: boolean;
}

/**
 * Gradients of attention by the keys, the values or both, one for each query head: the caller sums over the query heads
 * of a key head. The grid is as large as that of the queries, however few key heads there are.
 *
 * Bindings where the gradient by the keys is wanted: a0 `q[B,T,H,D]`, a1 `k[B,S,G,D]`, a2 `v[B,S,G,D]`,
 * a3 `dOut[B,T,H,D]`, a4 `lse[B,T,H]`, a5 `delta[B,T,H]` as in {@link attentionGradQ}; o0 `dk[B,S,H,D]`, and o1
 * `dv[B,S,H,D]` if wanted too, with P in front when there are parts. Values only: a0 `q`, a1 `k`, a2 `dOut`, a3 `lse` or `rows`; o0 `dv`.
 *
 * Source: Dao et al. 2022, algorithm 4.
 *
 * @param options Sizes, wanted outputs and tiling; `attentionTiling` recommends the tiling
 * @returns The kernel
 * @throws {RangeError} When no output is wanted, or sizes or tiling do not fit
 */
export function attentionGradKV(options: AttentionGradKVOptions): Kernel {
  const { batch, heads, dim, outputs, f16, matrix, tile: length, grouped } = options;
  if (!outputs.k && !outputs.v) {
    throw new RangeError(`Cannot make attention_grad_kv as "outputs" must want one: none`);
  }
  if (grouped && matrix === undefined) {
    throw new RangeError(`Cannot make attention_grad_kv as "grouped" needs matrix units: ${grouped}`);
  }
  const kind = { pass: "gradKV", valuesOnly: !outputs.k } as const;
  const frame = matrix === undefined
    ? attentionFrame(options, { tiling: options, ...kind })
    : matrixFrame(options, { matrix, tile: length, grouped, ...kind });
  const { keys, type, tile, staged, inputs } = frame;
  const tiled = staged ? stagedGradKV : tiledGradKV;
  const written = [...(outputs.k ? [type] : []), ...(outputs.v ? [type] : [])];
  const which = [...(outputs.k ? ["k"] : []), ...(outputs.v ? ["v"] : [])].join("");
  return {
    name: `attention_grad_${which} ${batch}x${keys}x${heads}x${dim}`,
    grid: attentionGrid(frame),
    flops: (outputs.k ? (outputs.v ? 8 : 6) : 4) * dim * visiblePairs({ ...frame, shape: options }),
    code: isMatrixFrame(frame)
      ? matrixStorage(frame, written) + matrixGradKV(frame, { outputs })
      : storage(inputs.types, written, f16) +
        (tile === 0 ? directGradKV(frame, { outputs }) : tiled(frame, { outputs })),
  };
}
