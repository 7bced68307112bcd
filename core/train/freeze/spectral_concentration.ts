/**
 * How much of a matrix lies in few directions, as a signal.
 *
 * @module
 */

import { divide, multiply } from "../../ops/arithmetic.ts";
import { sum } from "../../ops/broadcast.ts";
import { matmul } from "../../ops/matmul.ts";
import type { SignalDefinition } from "../../policy.ts";
import type { Tensor } from "../../tensor.ts";
import { defineSignal } from "./define_signal.ts";

/**
 * Concentration of the spectrum of a matrix W: `sum e^2 / (sum e)^2` over the eigenvalues e of `W^T W`, the squared singular
 * values. It is 1 where one direction has all, one over the rank where all have the same, and for independent random elements
 * of an n x m matrix near `(n + m + 1) / (n m)`; the heavier the tail of the spectrum, the larger it is. Its inverse is known as
 * effective rank, or participation ratio.
 *
 * It is exact without any decomposition, as `sum e` is `sum W^2`, and `sum e^2` is the sum of the squares of `W W^T`. That
 * product costs a step a launch for each matrix, and `2 n^2 m` operations for n rows of m, the smaller being n. Parameters that
 * are no matrices do not count; a LoRA pair counts as the block matrix of both.
 */
export const spectralConcentration: SignalDefinition = defineSignal({
  name: "spectralConcentration",
  measure({ weight }) {
    if (weight.shape.length !== 2) return null;
    const [rows, columns] = weight.shape;
    const gram = rows <= columns
      ? matmul(weight, weight, { transposeB: true })
      : matmul(weight, weight, { transposeA: true });
    const total = sum(square(weight));
    return divide(sum(square(gram)), multiply(total, total));
  },
});

function square(x: Tensor): Tensor {
  return multiply(x, x);
}
