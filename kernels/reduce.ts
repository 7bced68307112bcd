/**
 * Reductions: along rows, along columns, and of partial sums.
 *
 * @module
 */

import { type Expression, render } from "./expression.ts";
import { treeSum } from "./elementwise.ts";
import { f32, foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, repeat } from "./kernel.ts";

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
  /** How elements are joined. */
  readonly kind: "sum" | "max";
  /** Threads that share one row when `inner` is 1; a power of two. 1 is a thread a row, and a thread a column. */
  readonly threads: number;
  /** Label for the profiler. */
  readonly label: string;
}

const LOWEST = -3.4028234663852886e38;

/** Columns, or groups of four, and rows that a workgroup takes at once. */
const TILE = { columns: 32, rows: 8 };
/** Workgroups that fill the processors of a large GPU. */
const MANY_GROUPS = 512;
/** Sums of columns that are long and few are shared by several threads. */
const isShared = ({ outer, length, inner, threads }: ColumnSizes): boolean =>
  threads > 1 && length > TILE.rows && outer * inner < 65536;

/** What {@link columnPieces} depends on. */
export type ColumnSizes = Pick<Reduction, "outer" | "length" | "inner" | "threads">;

/**
 * Columns are reduced in this many pieces, whose results a second launch reduces.
 *
 * @param reduction The reduction
 * @returns 1 when a single launch is enough, at most 64
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

function reduceRows({ expression, outer, length, kind, threads, label }: Reduction): Kernel {
  const { lanes, types, body } = render(expression, { lanes: length % 4 === 0 ? 4 : 1 });
  const n = expression.steps.length - 1;
  const steps = Math.ceil(length / lanes);
  const zero = kind === "sum" ? "0.0f" : f32(LOWEST);
  const start = lanes === 4 ? `vec4<f32>(${zero})` : zero;
  const join = (a: string, b: string): string => kind === "sum" ? `${a} + ${b}` : `max(${a}, ${b})`;
  const fold = lanes === 4
    ? (kind === "sum" ? "(acc.x + acc.y) + (acc.z + acc.w)" : "max(max(acc.x, acc.y), max(acc.z, acc.w))")
    : "acc";
  const head = declarations(types);
  const flops = outer * length * expression.steps.length;
  if (threads === 1) {
    const code = `${head}
@compute @workgroup_size(64) fn main(${GROUP_BUILTINS}) {
let row = (${GROUP_INDEX}) * 64u + lid;
if (row >= ${outer}u) { return; }
var acc = ${start};
for (var k = 0u; k < ${steps}u; k++) {
let i = row * ${steps}u + k;
${body("i")}
acc = ${join("acc", `v${n}`)};
}
o[row] = ${fold};
}`;
    return { name: label, code, grid: foldGrid(Math.ceil(outer / 64)), flops };
  }
  const tree = kind === "sum" ? treeSum("tree", "part", threads) : treeMax("tree", "part", threads);
  const code = `${head}
var<workgroup> tree: array<f32, ${threads}>;
@compute @workgroup_size(${threads}) fn main(${GROUP_BUILTINS}) {
let row = ${GROUP_INDEX};
if (row >= ${outer}u) { return; }
var acc = ${start};
for (var k = lid; k < ${steps}u; k += ${threads}u) {
let i = row * ${steps}u + k;
${body("i")}
acc = ${join("acc", `v${n}`)};
}
let part = ${fold};
${tree}if (lid == 0u) { o[row] = tree[0]; }
}`;
  return { name: label, code, grid: foldGrid(outer), flops };
}

/** A thread a column, or tiles of threads whose rows are joined in workgroup memory, in a fixed order. */
function reduceColumns(reduction: Reduction): Kernel {
  const { expression, outer, length, inner, kind, label } = reduction;
  const shared = isShared(reduction);
  const pieces = columnPieces(reduction);
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
  const rest = Array.from({ length: TILE.rows - 1 }, (_, r) => `tile[lid + ${(r + 1) * TILE.columns}u]`);
  const text = shared
    ? `let wanted = t % ${blocks}u * ${TILE.columns}u + lid % ${TILE.columns}u;
let c = min(wanted, ${columns - 1}u);
${walk(` + lid / ${TILE.columns}u`, TILE.rows)}
tile[lid] = acc;
workgroupBarrier();
if (lid < ${TILE.columns}u && wanted < ${columns}u) { ${result} = ${rest.reduce(join, "acc")}; }`
    : `let c = t % ${columns}u;
${walk("", 1)}
${result} = acc;`;
  const code = `${declarations(types, type)}
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
  return [...inputs, `@group(0) @binding(${types.length}) var<storage, read_write> o: array<${output}>;`]
    .join("\n");
}

function treeMax(name: string, value: string, threads: number): string {
  return treeSum(name, value, threads).replace(
    /tree\[lid\] \+= (tree\[[^\]]+\])/g,
    "tree[lid] = max(tree[lid], $1)",
  );
}

/** Neighbouring numbers of one buffer that are added up. */
export interface Run {
  /** Number of the buffer among the inputs. */
  readonly input: number;
  /** First element. */
  readonly start: number;
  /** How many. */
  readonly count: number;
}

/**
 * Adds runs of partial sums: `o[first + k]` becomes the sum of run `k`. One workgroup a run.
 *
 * @param options `inputs`: how many buffers; `runs`: what to add; `first`: where the results go
 * @returns The kernel; bindings are the inputs, then the output
 */
export function collect(
  options: { readonly inputs: number; readonly runs: readonly Run[]; readonly first: number },
): Kernel {
  const { inputs, runs, first } = options;
  const threads = runs.every((r) => r.count <= 8) ? 1 : 64;
  const sum = (r: Run): string =>
    `for (var k = lid; k < ${r.count}u; k += ${threads}u) { acc += a${r.input}[${r.start}u + k]; }`;
  const code = `${declarations(Array.from({ length: inputs }, () => "f32"))}
var<workgroup> tree: array<f32, ${threads}>;
@compute @workgroup_size(${threads}) fn main(${GROUP_BUILTINS}) {
let g = ${GROUP_INDEX};
if (g >= ${runs.length}u) { return; }
var acc = 0.0f;
switch g {
${repeat(runs.length, (k) => `case ${k}u: { ${sum(runs[k])} }\n`)}default: {}
}
${
    threads === 1
      ? `o[${first}u + g] = acc;`
      : `${treeSum("tree", "acc", threads)}if (lid == 0u) { o[${first}u + g] = tree[0]; }`
  }
}`;
  return {
    name: `collect ${runs.length}`,
    code,
    grid: foldGrid(runs.length),
    flops: runs.reduce((n, r) => n + r.count, 0),
  };
}
