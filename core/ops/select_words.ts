/**
 * One of two tensors of words.
 *
 * @module
 */

import { selectWords as selectWordsKernel } from "../../kernels/select_words.ts";
import { sizeOf } from "../spec.ts";
import { apply, type Op, type Tensor } from "../tensor.ts";

const selectWordsOp: Op<null> = {
  name: "selectWords",
  infer: ([, { shape }]) => [{ shape, dtype: "u32" }],
  kernel: ({ inputs: [, { shape }] }) => ({ kernel: selectWordsKernel({ items: sizeOf(shape) }) }),
};

/**
 * Selects a whole tensor of words, which holds no numbers that {@link where} could compare.
 *
 * @param flag f32 scalar
 * @param a Result where the flag is not 0, u32
 * @param b Result elsewhere, u32 of the same shape
 * @returns u32 of that shape
 */
export function selectWords(flag: Tensor, a: Tensor, b: Tensor): Tensor {
  return apply(selectWordsOp, [flag, a, b], null);
}
