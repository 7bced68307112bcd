/**
 * Elements by index along an axis, and sums of elements by index, without atomics: the same bits on every run.
 *
 * @module
 */

import { type Kernel, repeat } from "./kernel.ts";
import { flatKernel, NAN_FUNCTION } from "./rows.ts";

/** An axis of a tensor `[outer, length, inner]`, and how many indices a column has. */
export interface GatherOptions {
  /** Product of the sizes before the axis. */
  readonly outer: number;
  /** Size of the axis, L. */
  readonly length: number;
  /** Indices along the axis, K. */
  readonly count: number;
  /** Product of the sizes after the axis. */
  readonly inner: number;
}

/**
 * Takes elements along an axis: `out[o,k,i] = x[o,indices[o,k,i],i]`; an index outside the axis gives NaN.
 *
 * Bindings: a0 `x[outer,L,inner]`, a1 `indices[outer,K,inner]` i32; o0 `out[outer,K,inner]`.
 *
 * @param options Sizes
 * @returns The kernel
 */
export function gather({ outer, length, count, inner }: GatherOptions): Kernel {
  return flatKernel({
    name: `gather ${outer}x${count}x${inner} of ${length}`,
    items: outer * count * inner,
    inputs: ["f32", "i32"],
    outputs: ["f32"],
    functions: NAN_FUNCTION,
    body: `  let id = a1[i];
  var value = nan();
  if (id >= 0 && id < ${length}) {
    value = a0[(i / ${count * inner}u * ${length}u + u32(id)) * ${inner}u + i % ${inner}u];
  }
  o0[i] = value;
`,
  });
}

/**
 * Adds up elements by index along an axis, in the order in which they stand: `out[o,j,i]` is the sum of all `x[o,k,i]` with
 * `indices[o,k,i] = j`. Indices outside the axis are ignored. Each result looks at all K indices of its column.
 *
 * Bindings: a0 `x[outer,K,inner]`, a1 `indices[outer,K,inner]` i32; o0 `out[outer,L,inner]`.
 *
 * @param options Sizes
 * @returns The kernel
 */
export function scatterAdd({ outer, length, count, inner }: GatherOptions): Kernel {
  const unroll = 4, looped = count - count % unroll;
  const one = (k: string): string =>
    `    { let p = first + (${k}) * ${inner}u; total += select(0.0f, a0[p], a1[p] == own); }\n`;
  return flatKernel({
    name: `scatter_add ${outer}x${count}x${inner} to ${length}`,
    items: outer * length * inner,
    inputs: ["f32", "i32"],
    outputs: ["f32"],
    flops: outer * count * inner,
    body: `  let own = i32(i / ${inner}u % ${length}u);
  let first = i / ${length * inner}u * ${count * inner}u + i % ${inner}u;
  var total = 0.0f;
  for (var k = 0u; k < ${looped}u; k += ${unroll}u) {
${repeat(unroll, (n) => one(`k + ${n}u`))}  }
${repeat(count - looped, (n) => one(`${looped + n}u`))}  o0[i] = total;
`,
  });
}
