/**
 * The head of decoders for classes of sequences: scores of the last token.
 *
 * Axes: B batch, T time, C channels.
 *
 * @module
 */

import { type LinearParams, linearParams } from "../nn/linear.ts";
import { paddingLimits } from "../nn/padding.ts";
import { add, cast } from "../ops/arithmetic.ts";
import { embedding } from "../ops/embedding.ts";
import { integers } from "../ops/integers.ts";
import { reshape, slice } from "../ops/movement.ts";
import { tensor } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import type { ClassConfig } from "./class_head.ts";
import type { Head, TokenInput } from "./family.ts";

/**
 * A head for classes of sequences, as decoders of `transformers` have it: `score` reads the state of the last token, which
 * alone has seen all others.
 *
 * @returns The head
 */
export function lastTokenHead<
  C extends ClassConfig & { readonly hiddenSize: number },
  P extends object,
>(): Head<
  C,
  P,
  TokenInput
> {
  return {
    task: "sequenceClass",
    params: ({ classes, hiddenSize }) => ({ score: linearParams([classes, hiddenSize]) }),
    problem: ({ problem }) => problem,
    features: (hidden, { input }) => lastOf(hidden, input.attentionMask),
    output: (params) => (params as { readonly score: LinearParams }).score,
  };
}

/** The state of the last token of each sequence: f32 [B, T, C] to [B, C]. */
function lastOf(hidden: Tensor, attentionMask: Tensor | undefined): Tensor {
  const [batch, time, size] = hidden.shape, { lengths } = paddingLimits(attentionMask);
  if (lengths === undefined) {
    return reshape(slice(hidden, { starts: [0, time - 1, 0], sizes: [batch, 1, size] }), [batch, size]);
  }
  const before = tensor(Float32Array.from({ length: batch }, (_, b) => b * time - 1));
  return embedding(reshape(hidden, [batch * time, size]), integers(add(cast(lengths), before)));
}
