/**
 * The largest elements along an axis.
 *
 * @module
 */

import { foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, storage } from "./kernel.ts";
import { boundedLoop, type Threads } from "./rows.ts";

/** Columns of a workgroup when each has one thread. */
const COLUMNS = 64;

/** Options of {@link topK}. */
export interface TopKOptions {
  /** Product of the sizes before the axis. */
  readonly outer: number;
  /** Size of the axis, L. */
  readonly length: number;
  /** Product of the sizes after it. */
  readonly inner: number;
  /** How many elements to find, K, at most L. */
  readonly count: number;
  /** Threads of a column; `rowThreads` recommends where `inner` is 1, else 1. */
  readonly threads: Threads;
}

/**
 * Finds the K largest elements of each column, the largest first, of equal ones that of the lower index. NaN counts as the
 * largest. Each of K rounds looks at the whole column for the best element after the one before.
 *
 * Bindings: a0 `x[outer,L,inner]`; o0 `values[outer,K,inner]`, o1 `indices[outer,K,inner]` i32.
 *
 * @param options Sizes and tuning
 * @returns The kernel
 */
export function topK({ outer, length, inner, count, threads }: TopKOptions): Kernel {
  const columns = outer * inner, group = threads === 1 ? COLUMNS : threads;
  const column = threads === 1 ? `(${GROUP_INDEX}) * ${COLUMNS}u + lid` : GROUP_INDEX;
  const look = boundedLoop(
    {
      from: threads === 1 ? "0u" : "lid",
      to: `${length}u`,
      step: threads,
      rounds: count * length / threads,
    },
    `let other = vec2u(rank(a0[base + i * ${inner}u]), i);
      if (other.x < last.x || (other.x == last.x && i + 1u > last.y + 1u)) { own = better(own, other); }`,
  );
  let join = "";
  for (let half = threads / 2; half >= 1; half /= 2) {
    join += `    if (lid < ${half}u) { best[lid] = better(best[lid], best[lid + ${half}u]); }
    workgroupBarrier();
`;
  }
  const shared = threads === 1 ? "" : `    best[lid] = own;
    workgroupBarrier();
${join}    own = best[0];
    workgroupBarrier();
`;
  return {
    name: `top_k ${count} of ${outer}x${length}x${inner}`,
    grid: foldGrid(threads === 1 ? Math.ceil(columns / COLUMNS) : columns),
    flops: count * outer * length * inner,
    code: `${storage(["f32"], ["f32", "i32"])}${
      threads === 1 ? "" : `var<workgroup> best: array<vec2u, ${threads}>;\n`
    }
// Unsigned numbers in the order of f32; both zeros are equal.
fn rank(x: f32) -> u32 {
  let bits = bitcast<u32>(select(x, 0.0f, x == 0.0f));
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }
  return select(bits | 0x80000000u, ~bits, bits >> 31u == 1u);
}
fn better(a: vec2u, b: vec2u) -> vec2u { return select(a, b, b.x > a.x || (b.x == a.x && b.y < a.y)); }
@compute @workgroup_size(${group}) fn main(${GROUP_BUILTINS}) {
  let column = ${column};
  if (column >= ${columns}u) { return; }
  let base = column / ${inner}u * ${length * inner}u + column % ${inner}u;
  let target_base = column / ${inner}u * ${count * inner}u + column % ${inner}u;
  // Rank and index of the element of the round before: all others come after it.
  var last = vec2u(0xffffffffu, 0xffffffffu);
  for (var k = 0u; k < ${count}u; k += 1u) {
    var own = vec2u(0u, 0xffffffffu);
${look}
${shared}    last = own;
    ${threads === 1 ? "" : "if (lid == 0u) "}{
      o0[target_base + k * ${inner}u] = a0[base + own.y * ${inner}u];
      o1[target_base + k * ${inner}u] = i32(own.y);
    }
  }
}
`,
  };
}
