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
import { equal, where } from "../ops/comparison.ts";
import { integers } from "../ops/integers.ts";
import { max } from "../ops/reduce.ts";
import { reshape, slice } from "../ops/movement.ts";
import { tensor } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import type { ClassConfig } from "./class_head.ts";
import type { Head, TokenInput } from "./family.ts";

/**
 * A head for classes of sequences, as decoders of `transformers` have it: `score` reads the state of the last token, which
 * alone has seen all others. As there, that is the last one whose id is not that of the padding; where the configuration has no
 * such id, the mask tells.
 *
 * @returns The head
 */
export function lastTokenHead<
  C extends ClassConfig & { readonly hiddenSize: number; readonly padding: number | null },
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
    features: (hidden, { input, config }) => lastOf(hidden, { ...input, padding: config.padding }),
    output: (params) => (params as { readonly score: LinearParams }).score,
  };
}

/** The state of the last token of each sequence: f32 [B, T, C] to [B, C]. */
function lastOf(
  hidden: Tensor,
  { inputIds, attentionMask, padding }: TokenInput & { readonly padding: number | null },
): Tensor {
  const [batch, time, size] = hidden.shape;
  const row = (at: (b: number) => number): Tensor =>
    tensor(Float32Array.from({ length: batch }, (_, b) => at(b)));
  if (padding !== null) {
    const places = tensor(Float32Array.from({ length: time }, (_, t) => t), [1, time]);
    // The first position where all are padding.
    const last = max(where(equal(cast(inputIds), padding), 0, places), 1);
    return rowsAt(hidden, add(last, row((b) => b * time)));
  }
  const { lengths } = paddingLimits(attentionMask);
  if (lengths === undefined) {
    return reshape(slice(hidden, { starts: [0, time - 1, 0], sizes: [batch, 1, size] }), [batch, size]);
  }
  return rowsAt(hidden, add(cast(lengths), row((b) => b * time - 1)));
}

/** Rows of all sequences by their numbers, f32 [B]. */
function rowsAt(hidden: Tensor, numbers: Tensor): Tensor {
  const [batch, time, size] = hidden.shape;
  return embedding(reshape(hidden, [batch * time, size]), integers(numbers));
}
