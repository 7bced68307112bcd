/**
 * Cumulative sums along an axis.
 *
 * @module
 */

import { foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, storage } from "./kernel.ts";
import { boundedLoop, type Threads } from "./rows.ts";

/** Columns of a workgroup when each has one thread. */
const COLUMNS = 64;

/** Options of {@link cumsum}. */
export interface CumsumOptions {
  /** Product of the sizes before the axis. */
  readonly outer: number;
  /** Size of the axis. */
  readonly length: number;
  /** Product of the sizes after it. */
  readonly inner: number;
  /** Whether to sum from the end. */
  readonly reverse: boolean;
  /** Threads of a column; `rowThreads` recommends where `inner` is 1, else 1. */
  readonly threads: Threads;
}

/**
 * Sums of each element and all before it. Each thread of a column sums neighbours, then adds the sums of the threads before.
 *
 * Bindings: a0 `x[outer,length,inner]`; o0 the sums, of the same shape.
 *
 * @param options Sizes and tuning
 * @returns The kernel
 */
export function cumsum({ outer, length, inner, reverse, threads }: CumsumOptions): Kernel {
  const columns = outer * inner, share = Math.ceil(length / threads);
  const column = threads === 1 ? `(${GROUP_INDEX}) * ${COLUMNS}u + lid` : GROUP_INDEX;
  const at = `base + ${reverse ? `(${length - 1}u - i)` : "i"} * ${inner}u`;
  const run = (body: string): string =>
    boundedLoop({ from: "first", to: "end", step: 1, rounds: (threads === 1 ? 1 : 2) * share }, body);
  const before = threads === 1 ? "" : `  var part = 0.0f;
${run(`part += a0[${at}];`)}
  parts[lid] = part;
  workgroupBarrier();
  for (var t = 0u; t < lid; t += 1u) { total += parts[t]; }
`;
  return {
    name: `cumsum ${outer}x${length}x${inner}`,
    grid: foldGrid(threads === 1 ? Math.ceil(columns / COLUMNS) : columns),
    flops: outer * length * inner * (threads === 1 ? 1 : 2),
    code: `${storage(["f32"], ["f32"])}${
      threads === 1 ? "" : `var<workgroup> parts: array<f32, ${threads}>;\n`
    }
@compute @workgroup_size(${threads === 1 ? COLUMNS : threads}) fn main(${GROUP_BUILTINS}) {
  let column = ${column};
  if (column >= ${columns}u) { return; }
  let base = column / ${inner}u * ${length * inner}u + column % ${inner}u;
  let first = ${threads === 1 ? "0u" : `min(lid * ${share}u, ${length}u)`};
  let end = min(first + ${share}u, ${length}u);
  var total = 0.0f;
${before}${run(`total += a0[${at}]; o0[${at}] = total;`)}
}
`,
  };
}
