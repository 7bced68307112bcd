/**
 * Rows of tokens and rows of pairs, in the order of experts.
 *
 * Legend: N tokens, K pairs of a token, P = N K pairs, C elements of a row.
 *
 * @module
 */

import type { Kernel } from "../kernel.ts";
import { flatKernel, lanesOf } from "../rows.ts";

/** Sizes of {@link takeRows} and {@link sumRows}. */
export interface PairRows {
  /** Pairs P. */
  readonly pairs: number;
  /** Pairs of a token K. */
  readonly each: number;
  /** Elements of a row C. */
  readonly width: number;
}

/**
 * Copies the row of its token to each pair.
 *
 * Bindings: a0 `x[N,C]`, a1 `order[P]` u32; o0 `y[P,C]` with `y[i] = x[order[i] / K]`.
 *
 * @param sizes Pairs and elements
 * @returns The kernel
 */
export function takeRows({ pairs, each, width }: PairRows): Kernel {
  const { type, loads } = lanesOf(width);
  return flatKernel({
    name: `take_rows ${pairs}x${width} by ${each}`,
    items: pairs * loads,
    inputs: [type, "u32"],
    outputs: [type],
    body: `  let row = i / ${loads}u;
  o0[i] = a0[(a1[row] / ${each}u) * ${loads}u + (i - row * ${loads}u)];
`,
  });
}

/**
 * Adds up the rows of the pairs of each token, in the order of its pairs.
 *
 * Bindings: a0 `y[P,C]`, a1 `places[P]` u32; o0 `x[N,C]` with `x[n]` the sum of `y[places[n K + j]]`.
 *
 * @param sizes Pairs and elements
 * @returns The kernel
 */
export function sumRows({ pairs, each, width }: PairRows): Kernel {
  const { type, loads } = lanesOf(width);
  return flatKernel({
    name: `sum_rows ${pairs}x${width} by ${each}`,
    items: pairs / each * loads,
    inputs: [type, "u32"],
    outputs: [type],
    flops: pairs * width,
    body: `  let row = i / ${loads}u;
  let column = i - row * ${loads}u;
  var total = ${type}();
  for (var j = 0u; j < ${each}u; j += 1u) { total += a0[a1[row * ${each}u + j] * ${loads}u + column]; }
  o0[i] = total;
`,
  });
}
