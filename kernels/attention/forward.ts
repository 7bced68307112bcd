/**
 * Attention with an online softmax: no T x S memory, any head size, grouped key heads, causal and sliding windows.
 *
 * @module
 */

import { type Kernel, storage } from "../kernel.ts";
import { directForward } from "./direct.ts";
import { isMatrixFrame, matrixFrame, matrixStorage } from "./matrix_frame.ts";
import { matrixForward } from "./matrix_kernels.ts";
import { stagedForward } from "./staged.ts";
import { tiledForward } from "./tiled.ts";
import {
  attentionFrame,
  attentionGrid,
  type AttentionShape,
  type AttentionTiling,
  visiblePairs,
} from "./frame.ts";

/** Options of {@link attention}. */
export interface AttentionOptions extends AttentionShape, AttentionTiling {}

/**
 * The forward kernel: values weighted by the softmax of the scaled scores.
 *
 * Query i at position p = `i + S - T` sees key j if not `causal` or `j <= p`, and with `window` if `j > p - window`.
 *
 * Bindings: a0 `q[B,T,H,D]`, a1 `k[B,S,G,D]`, a2 `v[B,S,G,D]`, with `ranges` then `ranges[B,T,2]` i32, the first key that
 * each query sees and the end of those keys, and with `bias` last `bias[B|1,H|1,T|1,S]`; a query that sees no key gives 0.
 * Keys that no query of a workgroup sees are not read.
 * o0 `out[B,T,H,D]`, o1 `lse[B,T,H]`, the natural logarithm of the sum of exponentials of the scaled scores.
 *
 * Source: Milakov and Gimelshein 2018, algorithm 3; Dao et al. 2022, algorithm 1.
 *
 * @param options Sizes and tiling; `attentionTiling` recommends the tiling
 * @returns The kernel
 * @throws {RangeError} When sizes or tiling do not fit
 */
export function attention(options: AttentionOptions): Kernel {
  const { batch, time, heads, dim, f16, matrix, tile: length } = options;
  const frame = matrix === undefined
    ? attentionFrame(options, { tiling: options, pass: "forward" })
    : matrixFrame(options, { matrix, tile: length, pass: "forward" });
  if (frame.parts > 1) {
    throw new RangeError(`Cannot share a softmax as "parts" are for gradients: ${frame.parts}`);
  }
  const { keys, type, tile, staged, inputs } = frame;
  const tiled = staged ? stagedForward : tiledForward;
  const names = [`${batch}x${time}`, ...(keys === time ? [] : [keys]), `${heads}x${dim}`];
  return {
    name: `attention ${names.join("x")}`,
    grid: attentionGrid(frame),
    flops: 4 * dim * visiblePairs(frame),
    code: isMatrixFrame(frame)
      ? matrixStorage(frame, [type, "f32"]) + matrixForward(frame)
      : storage(inputs.types, [type, "f32"], f16) + (tile === 0 ? directForward(frame) : tiled(frame)),
  };
}
