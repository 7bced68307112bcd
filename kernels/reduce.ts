/**
 * Reductions along rows, along columns, and of partial sums.
 *
 * @module
 */

import { type Expression, render } from "./expression.ts";
import { treeSum } from "./elementwise.ts";
import { f16Header, halfType, toHalf } from "./f16.ts";
import { f32, foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, repeat, storage } from "./kernel.ts";

/** A reduction of an expression over the middle of `[outer, length, inner]`. */
export interface Reduction {
  /** What is reduced; its iteration space has `outer * length * inner` elements. */
  readonly expression: Expression;
  /** Product of the sizes before the reduced axes. */
  readonly outer: number;
  /** Product of the reduced sizes. */
  readonly length: number;
  /** Product of the sizes after the reduced axes. */
  readonly inner: number;
  /** How elements are combined. */
  readonly kind: "sum" | "max";
  /** Threads that share a row when `inner` is 1, a power of two; `reduceThreads` recommends. 1 gives each row or column one thread. */
  readonly threads: number;
  /** Whether the result is stored as f16; f32 when absent. */
  readonly half?: boolean;
  /** Label for the profiler. */
  readonly label: string;
}

const LOWEST = -3.4028234663852886e38;

/** Threads of a workgroup that sums short rows. */
const ROW_THREADS = 64;
/** Columns (or groups of four) and rows of a workgroup. */
const TILE = { columns: 32, rows: 8 };
/** Workgroups that fill a large GPU. */
const MANY_GROUPS = 512;
/** Whether several threads share a column: when columns are long and few. */
const isShared = ({ outer, length, inner, threads }: ColumnSizes): boolean =>
  threads > 1 && length > TILE.rows && outer * inner < 65536;

/** What {@link columnPieces} depends on. */
export type ColumnSizes = Pick<Reduction, "outer" | "length" | "inner" | "threads">;

/**
 * Chooses the number of pieces of a column reduction, whose results a second launch reduces.
 *
 * @param reduction The reduction
 * @returns 1 when one launch is enough; at most 64
 */
export function columnPieces(sizes: ColumnSizes): number {
  const { outer, length, inner } = sizes;
  if (inner === 1 || outer * inner >= 65536 || length <= 64) return 1;
  if (!isShared(sizes)) return Math.min(64, Math.ceil(length / 32));
  const groups = outer * Math.ceil(inner / (4 * TILE.columns));
  return Math.min(64, Math.ceil(length / 64), Math.ceil(MANY_GROUPS / groups));
}

/**
 * The kernel of a reduction. Bindings: inputs of the expression, then the output `[outer, pieces, inner]`.
 *
 * @param reduction What to reduce
 * @returns The kernel
 */
export function reduce(reduction: Reduction): Kernel {
  return reduction.inner === 1 ? reduceRows(reduction) : reduceColumns(reduction);
}

function reduceRows({ expression, outer, length, kind, threads, label, half }: Reduction): Kernel {
  const { lanes, types, body } = render(expression, { lanes: length % 4 === 0 ? 4 : 1 });
  const n = expression.steps.length - 1;
  const steps = Math.ceil(length / lanes);
  const zero = kind === "sum" ? "0.0f" : f32(LOWEST);
  const start = lanes === 4 ? `vec4<f32>(${zero})` : zero;
  const join = (a: string, b: string): string => kind === "sum" ? `${a} + ${b}` : `max(${a}, ${b})`;
  const fold = lanes === 4
    ? (kind === "sum" ? "(acc.x + acc.y) + (acc.z + acc.w)" : "max(max(acc.x, acc.y), max(acc.z, acc.w))")
    : "acc";
  const rows = Math.max(1, ROW_THREADS / threads), groups = Math.ceil(outer / rows);
  const shared = threads > 1;
  const put = (value: string): string => half ? toHalf(value, "f32") : value;
  const code = `${declarations(types, half ? halfType("f32") : "f32")}
${shared ? `var<workgroup> tree: array<f32, ${rows * threads}>;` : ""}
@compute @workgroup_size(${rows * threads}) fn main(${GROUP_BUILTINS}) {
let group = ${GROUP_INDEX};
if (group >= ${groups}u) { return; }
let lane = lid % ${threads}u;
let wanted = group * ${rows}u + lid / ${threads}u;
let row = min(wanted, ${outer - 1}u);
var acc = ${start};
for (var k = lane; k < ${steps}u; k += ${threads}u) {
let i = row * ${steps}u + k;
${body("i")}
acc = ${join("acc", `v${n}`)};
}
let part = ${fold};
${shared ? treeJoin(threads, join) : ""}if (lane == 0u && row == wanted) { o[row] = ${
    put(shared ? "tree[lid]" : "part")
  }; }
}`;
  return {
    name: label,
    code,
    grid: foldGrid(groups),
    flops: outer * length * expression.steps.length,
  };
}

/** Combines the `part` of neighbouring threads in a fixed order; the first thread holds the result. */
function treeJoin(threads: number, join: (a: string, b: string) => string): string {
  let text = "tree[lid] = part;\nworkgroupBarrier();\n";
  for (let half = threads / 2; half >= 1; half /= 2) {
    text += `if (lane < ${half}u) { tree[lid] = ${
      join("tree[lid]", `tree[lid + ${half}u]`)
    }; }\nworkgroupBarrier();\n`;
  }
  return text;
}

/**
 * Chooses the threads of a row on a GPU; short rows share a workgroup.
 *
 * @param length Elements of a row
 * @returns A power of two
 */
export function reduceThreads(length: number): number {
  const loads = length % 4 === 0 ? length / 4 : length;
  return Math.min(128, Math.max(4, 2 ** Math.ceil(Math.log2(loads / 4))));
}

/** One thread per column, or tiles of threads whose rows are combined in workgroup memory in a fixed order. */
function reduceColumns(reduction: Reduction): Kernel {
  const { expression, outer, length, inner, kind, label, half: wanted = false } = reduction;
  const shared = isShared(reduction);
  const pieces = columnPieces(reduction);
  // Pieces stay f32, as they are reduced again.
  const half = wanted && pieces === 1;
  const perPiece = Math.ceil(length / pieces);
  const { lanes, types, body } = render(expression, { lanes: inner % 4 === 0 ? 4 : 1 });
  const n = expression.steps.length - 1;
  const type = lanes === 4 ? "vec4<f32>" : "f32";
  const columns = inner / lanes;
  const join = (a: string, b: string): string => kind === "sum" ? `${a} + ${b}` : `max(${a}, ${b})`;
  const blocks = shared ? Math.ceil(columns / TILE.columns) : columns;
  const total = outer * pieces * blocks;
  const threads = shared ? TILE.columns * TILE.rows : 64;
  const group = shared ? GROUP_INDEX : `(${GROUP_INDEX}) * 64u + lid`;
  const walk = (first: string, step: number): string =>
    `var acc = ${type}(${kind === "sum" ? "0.0f" : f32(LOWEST)});
let end = min((piece + 1u) * ${perPiece}u, ${length}u);
for (var k = piece * ${perPiece}u${first}; k < end; k += ${step}u) {
let i = (row * ${length}u + k) * ${columns}u + c;
${body("i")}
acc = ${join("acc", `v${n}`)};
}`;
  const result = `o[(row * ${pieces}u + piece) * ${columns}u + c]`;
  const put = (value: string): string => `${result} = ${half ? toHalf(value, type) : value};`;
  const rest = Array.from({ length: TILE.rows - 1 }, (_, r) => `tile[lid + ${(r + 1) * TILE.columns}u]`);
  const text = shared
    ? `let wanted = t % ${blocks}u * ${TILE.columns}u + lid % ${TILE.columns}u;
let c = min(wanted, ${columns - 1}u);
${walk(` + lid / ${TILE.columns}u`, TILE.rows)}
tile[lid] = acc;
workgroupBarrier();
if (lid < ${TILE.columns}u && wanted < ${columns}u) { ${put(rest.reduce(join, "acc"))} }`
    : `let c = t % ${columns}u;
${walk("", 1)}
${put("acc")}`;
  const code = `${declarations(types, half ? halfType(type) : type)}
${shared ? `var<workgroup> tile: array<${type}, ${threads}>;` : ""}
@compute @workgroup_size(${threads}) fn main(${GROUP_BUILTINS}) {
let t = ${group};
if (t >= ${total}u) { return; }
let piece = t / ${blocks}u % ${pieces}u;
let row = t / ${blocks * pieces}u;
${text}
}`;
  return {
    name: label,
    code,
    grid: foldGrid(shared ? total : Math.ceil(total / 64)),
    flops: outer * length * inner * expression.steps.length,
  };
}

function declarations(types: readonly string[], output = "f32"): string {
  const inputs = types.map((t, k) => `@group(0) @binding(${k}) var<storage, read> a${k}: array<${t}>;`);
  const all = [
    ...inputs,
    `@group(0) @binding(${types.length}) var<storage, read_write> o: array<${output}>;`,
  ];
  return f16Header([...types, output]) + all.join("\n");
}

/** A range of one buffer to add up. */
export interface Run {
  /** Index of the buffer among the inputs. */
  readonly input: number;
  /** First element. */
  readonly start: number;
  /** Number of elements; an empty sum is 0. */
  readonly count: number;
  /** Index of the sum in the output. */
  readonly place: number;
}

/** The order of a {@link Run}'s fields in the table that {@link collect} reads. */
export const RUN_FIELDS = ["input", "start", "count", "place"] as const satisfies readonly (keyof Run)[];

/**
 * Adds up runs of partial sums, one workgroup per run. A table lists the runs, so that the text does not depend on them.
 *
 * Bindings: a0 `table[R,4]` u32, the fields of R runs in the order of {@link RUN_FIELDS}; the inputs; the output.
 *
 * @param options `inputs`: number of buffers; `runs`: what to add. The text depends only on whether all are
 * short
 * @returns The kernel
 */
export function collect(options: { readonly inputs: number; readonly runs: readonly Run[] }): Kernel {
  const { inputs, runs } = options;
  const threads = runs.every((r) => r.count <= 8) ? 1 : 64;
  const code = `${storage(["vec4<u32>", ...Array.from({ length: inputs }, () => "f32")], ["f32"])}
var<workgroup> tree: array<f32, ${threads}>;
@compute @workgroup_size(${threads}) fn main(${GROUP_BUILTINS}) {
let g = ${GROUP_INDEX};
if (g >= arrayLength(&a0)) { return; }
let run = a0[g];
var acc = 0.0f;
switch run.x {
${
    repeat(inputs, (k) =>
      `case ${k}u: { for (var k = lid; k < run.z; k += ${threads}u) { acc += a${k + 1}[run.y + k]; } }\n`)
  }default: {}
}
${
    threads === 1
      ? "o0[run.w] = acc;"
      : `${treeSum("tree", "acc", threads)}if (lid == 0u) { o0[run.w] = tree[0]; }`
  }
}`;
  return {
    name: `collect ${runs.length}`,
    code,
    grid: foldGrid(runs.length),
    flops: runs.reduce((n, r) => n + r.count, 0),
  };
}
