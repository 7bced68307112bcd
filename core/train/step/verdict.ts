/**
 * Whether a step is taken: one whose gradients are not finite changes nothing.
 *
 * @module
 */

import { sum, sumEach } from "../../ops/broadcast.ts";
import { equal, maximum, where } from "../../ops/comparison.ts";
import { selectWords } from "../../ops/select_words.ts";
import { tensor } from "../../sources.ts";
import { apply, type Op, type Tensor } from "../../tensor.ts";
import { SKIPPED } from "../freeze/ring.ts";

/** 1 where a number is infinite or NaN, by its bits: compilers may assume that arithmetic gives neither. */
export const notFiniteOp: Op<null> = {
  name: "notFinite",
  infer: ([x]) => [{ shape: x.shape, dtype: "f32" }],
  element: {
    text([x], type) {
      const bits = type.replace("f32", "u32"), exponent = `${bits}(0x7f800000u)`;
      return `select(${type}(), ${type}(1.0f), (bitcast<${bits}>(${x}) & ${exponent}) == ${exponent})`;
    },
    value: (x) => Number.isFinite(x) ? 0 : 1,
  },
};

/** What a step does when all is finite, and when it is not. */
export interface Decision {
  /** 1 when the step is taken, else 0; f32 scalar. */
  readonly ok: Tensor;
  /** The new value, or the old one. */
  keep(value: Tensor, old: Tensor): Tensor;
  /** Readings f32 [N]; NaN after the first `always` of them when the step is skipped. */
  readings(row: Tensor, always: number): Tensor;
}

/**
 * Decides from some tensors, all of which must be finite.
 *
 * @param tensors They
 * @param size The largest number of them, so that other frozen sets have the same kernels
 * @returns The decision
 */
export function decideBy(tensors: readonly Tensor[], size: number): Decision {
  const bad = sum(sumEach(tensors.map((t) => apply(notFiniteOp, [t], null)), { size })), ok = equal(bad, 0);
  return {
    ok,
    keep: (value, old) => value.dtype === "u32" ? selectWords(ok, value, old) : where(ok, value, old),
    readings(row, always) {
      const first = tensor(Float32Array.from({ length: row.shape[0] }, (_, i) => i < always ? 1 : 0));
      return where(maximum(first, ok), row, tensor([NaN]));
    },
  };
}

/** What the ring gets for the loss of a step that may be skipped. */
export function lossReading({ ok }: Decision, loss: Tensor): Tensor {
  return where(ok, loss, SKIPPED);
}
