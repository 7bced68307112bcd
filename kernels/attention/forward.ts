/**
 * Attention with an online softmax: no T x S memory, any head size, grouped key heads, causal and sliding windows.
 *
 * @module
 */

import { type Kernel, storage } from "../kernel.ts";
import { directForward } from "./direct.ts";
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
export interface AttentionOptions extends AttentionShape, AttentionTiling {
  /** `"input"` reads the position of query 0 from a buffer: one kernel serves a key cache of S slots at every length. */
  readonly offset?: "input";
}

/**
 * The forward kernel: values weighted by the softmax of the scaled scores.
 *
 * Query i at position p = `i + S - T` sees key j if not `causal` or `j <= p`, and with `window` if `j > p - window`.
 *
 * Bindings: a0 `q[B,T,H,D]`, a1 `k[B,S,G,D]`, a2 `v[B,S,G,D]`, with `offset: "input"` a3 `offset[1]` u32 (then
 * p = `i + offset`, keys after the last position are not read, and the attention must be causal);
 * o0 `out[B,T,H,D]`, o1 `lse[B,T,H]`, the natural logarithm of the sum of exponentials of the scaled scores.
 *
 * Source: Milakov and Gimelshein 2018, algorithm 3; Dao et al. 2022, algorithm 1.
 *
 * @param options Sizes and tiling; `attentionTiling` recommends the tiling
 * @returns The kernel
 * @throws {RangeError} When sizes or tiling do not fit
 */
export function attention(options: AttentionOptions): Kernel {
  const { batch, time, heads, dim, f16 } = options;
  const frame = attentionFrame(options, { tiling: options, count: time });
  if (frame.parts > 1) {
    throw new RangeError(`Cannot share a softmax as "parts" are for gradients: ${frame.parts}`);
  }
  const { keys, type, causal, tile, staged } = frame;
  const tiled = staged ? stagedForward : tiledForward;
  const cached = options.offset === "input";
  if (cached && !causal) {
    throw new RangeError(`Cannot read an offset as "causal" must be true: ${options.causal}`);
  }
  const names = [`${batch}x${time}`, ...(keys === time ? [] : [keys]), `${heads}x${dim}`];
  const inputs = [type, type, type, ...(cached ? ["u32"] : [])];
  const offset = cached ? "i32(a3[0])" : `${keys - time}`;
  return {
    name: `attention ${names.join("x")}`,
    grid: attentionGrid(frame),
    flops: 4 * dim * visiblePairs(frame),
    code: storage(inputs, [type, "f32"], f16) +
      (tile === 0 ? directForward(frame, { offset }) : tiled(frame, { offset })),
  };
}
