/**
 * Kernels that compact rows: rows with a label move to the front, so that later products can skip the others.
 *
 * Legend: N rows, C elements of a row, R rows of a chunk.
 *
 * @module
 */

import { treeSum } from "./elementwise.ts";
import { access, type F16Bindings } from "./f16.ts";
import { foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, storage } from "./kernel.ts";
import { flatKernel, lanesOf, rowEach } from "./rows.ts";

const THREADS = 256;

/** Options of {@link compactOrder}. */
export interface CompactOrderOptions {
  /** Rows N. */
  readonly rows: number;
  /** Label of rows to ignore. */
  readonly ignore: number;
}

/**
 * Computes a stable order of rows: labelled rows first, ignored rows last. Every workgroup counts all labels, which is
 * cheap, so that it depends on no other workgroup.
 *
 * Bindings: a0 `labels[N]` i32; o0 `order[N]` u32, the row at each place; o1 `count[1]` u32, the number of labelled rows.
 *
 * @param options Rows, and the label to ignore
 * @returns The kernel
 */
export function compactOrder({ rows, ignore }: CompactOrderOptions): Kernel {
  const { lanes, loads } = lanesOf(rows);
  const [type, flags] = lanes === 4 ? ["vec4i", "vec4u"] : ["i32", "u32"];
  const total = (x: string): string => lanes === 4 ? `${x}.x + ${x}.y + ${x}.z + ${x}.w` : x;
  const count = (i: string): string =>
    `    { let counts = select(${flags}(), ${flags}(1u), a0[${i}] != ${type}(${ignore}));
      all += counts; before += counts * u32(${i} * ${lanes}u < base); }`;
  let scan = "";
  for (let step = 1; step < THREADS; step *= 2) {
    scan += `  { let left = select(0u, places[max(lid, ${step}u) - ${step}u], lid >= ${step}u);
    workgroupBarrier();
    places[lid] += left;
    workgroupBarrier(); }\n`;
  }
  return {
    name: `compact_order ${rows}`,
    grid: foldGrid(Math.ceil(rows / THREADS)),
    flops: 0,
    code: `${storage([type], ["u32", "u32"])}var<workgroup> tallies: array<vec2u, ${THREADS}>;
var<workgroup> places: array<u32, ${THREADS}>;
@compute @workgroup_size(${THREADS}) fn main(${GROUP_BUILTINS}) {
  let base = (${GROUP_INDEX}) * ${THREADS}u;
  if (base >= ${rows}u) { return; }
  var all = ${flags}();
  var before = ${flags}();
${rowEach({ items: loads, threads: THREADS }, (at) => at.map(count).join("\n"))}
${treeSum("tallies", `vec2u(${total("all")}, ${total("before")})`, THREADS)}
  let tally = tallies[0];
  let i = base + lid;
  let label = ${lanes === 4 ? "a0[i / 4u][i % 4u]" : "a0[i]"};
  let own = u32(i < ${rows}u && label != ${ignore});
  places[lid] = own;
  workgroupBarrier();
${scan}  if (i >= ${rows}u) { return; }
  let rank = tally.y + places[lid] - own;
  o0[select(tally.x + i - rank, rank, own == 1u)] = i;
  if (i == 0u) { o1[0] = tally.x; }
}
`,
  };
}

/** Options of {@link gatherRows}. */
export interface GatherRowsOptions extends CompactOrderOptions {
  /** First place of the chunk. */
  readonly start: number;
  /** Rows of the chunk, R. */
  readonly count: number;
  /** Elements of a row, C. */
  readonly width: number;
  /** Which of the bindings `a0` and `o0` hold f16; none when absent. */
  readonly f16?: F16Bindings;
}

/**
 * Gathers a chunk of rows in the order of {@link compactOrder}; ignored rows become zeros.
 *
 * Bindings: a0 `x[N,C]`, a1 `labels[N]` i32, a2 `order[N]` u32, a3 `count[1]` u32; o0 `x[R,C]`, o1 `labels[R]` i32,
 * o2 `limit[1]` u32, the number of labelled rows in the chunk.
 *
 * @param options Sizes, and the label to ignore
 * @returns The kernel
 */
export function gatherRows(options: GatherRowsOptions): Kernel {
  const { rows, ignore, start, count, width, f16 } = options;
  const { type, loads } = lanesOf(width);
  const { load, put } = access(type, f16);
  return flatKernel({
    name: `gather_rows ${count}x${width} of ${rows} at ${start}`,
    items: count * loads,
    inputs: [type, "i32", "u32", "u32"],
    outputs: [type, "i32", "u32"],
    f16,
    body: `  let limit = min(max(a3[0], ${start}u) - ${start}u, ${count}u);
  let row = i / ${loads}u;
  let column = i - row * ${loads}u;
  let source = a2[${start}u + row];
  var value = ${type}();
  if (row < limit) { value = ${load("a0", `source * ${loads}u + column`)}; }
  ${put("o0", "i", "value")}
  if (column == 0u) { o1[row] = select(${ignore}, a1[source], row < limit); }
  if (i == 0u) { o2[0] = limit; }
`,
  });
}

/**
 * Scatters ordered rows back to their places: the inverse of the order of {@link compactOrder}.
 *
 * Bindings: a0 `x[N,C]`, a1 `order[N]` u32; o0 `out[N,C]` with `out[order[i]] = x[i]`.
 *
 * @param options Rows N and their elements C; `f16`: which of the bindings `a0` and `o0` hold f16
 * @returns The kernel
 */
export function scatterRows(
  { rows, width, f16 }: { readonly rows: number; readonly width: number; readonly f16?: F16Bindings },
): Kernel {
  const { type, loads } = lanesOf(width);
  const { load, put } = access(type, f16);
  return flatKernel({
    name: `scatter_rows ${rows}x${width}`,
    items: rows * loads,
    inputs: [type, "u32"],
    outputs: [type],
    f16,
    body: `  let row = i / ${loads}u;
  ${put("o0", `a1[row] * ${loads}u + (i - row * ${loads}u)`, load("a0", "i"))}
`,
  });
}
