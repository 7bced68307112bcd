/**
 * WGSL shared by kernels that reduce rows, and by kernels that write each item once.
 *
 * @module
 */

import type { F16Bindings } from "./f16.ts";
import { foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, repeat, storage } from "./kernel.ts";

/** Threads that share a row: 1 gives each row a thread, more gives each row a workgroup. */
export type Threads = 1 | 32 | 64 | 128 | 256;

/** Rows of a workgroup when each row has one thread. */
const ROWS_OF_ONE = 32;

/** Threads of a workgroup in kernels that write each item once. */
const FLAT_THREADS = 256;

/** The value of masked scores, as WGSL has no literal for minus infinity. */
export const LOWEST = "-3.4e38f";

/** WGSL `nan()`: a NaN computed at run time, as constant expressions must be finite. */
export const NAN_FUNCTION = "fn nan() -> f32 { var bits = 0x7fc00000u; return bitcast<f32>(bits); }\n";

/**
 * Rounds of loops that a thread may make on a software adapter: after 65,535 in all, llvmpipe leaves every loop without a word.
 * Half of them leave room for other loops.
 */
export const MOST_ROUNDS = 2 ** 15;

/**
 * WGSL of a loop over `i` that makes no more rounds than {@link MOST_ROUNDS}: it looks at several numbers in a round where it would.
 *
 * @param range From where to where, in steps of how much; `rounds`: how many this loop and its like would make, one each
 * @param body WGSL, which reads `i`
 * @returns The loop
 */
export function boundedLoop(
  { from, to, step, rounds }: {
    readonly from: string;
    readonly to: string;
    readonly step: number;
    readonly rounds: number;
  },
  body: string,
): string {
  const unroll = Math.ceil(rounds / MOST_ROUNDS);
  if (unroll <= 1) return `  for (var i = ${from}; i < ${to}; i += ${step}u) { ${body} }`;
  const bodies = repeat(unroll, (u) => `    { let i = j + ${u * step}u; if (i < ${to}) { ${body} } }\n`);
  return `  for (var j = ${from}; j < ${to}; j += ${step * unroll}u) {\n${bodies}  }`;
}

/**
 * Chooses how many threads share a row: one on software adapters, where barriers are expensive, unless it would read too much.
 *
 * @param software Whether the adapter is a software rasteriser
 * @param width Elements of a row
 * @param options `reads`: how often each element is read in a loop of its own; such rows are not counted when absent
 * @returns Threads of a row
 */
export function rowThreads(
  software: boolean,
  width: number,
  { reads = 0 }: { readonly reads?: number } = {},
): Threads {
  if (software) {
    return ([1, 32, 64, 128] as const).find((threads) => reads * width / threads <= MOST_ROUNDS) ?? 256;
  }
  const loads = width % 4 === 0 ? width / 4 : width;
  if (loads <= 32) return 32;
  if (loads <= 128) return 64;
  return loads <= 512 ? 128 : 256;
}

/** How elements of a contiguous dimension are loaded: four at a time if four divides its size. */
export interface Lanes {
  /** Elements of one load: 4 or 1. */
  readonly lanes: 4 | 1;
  /** `"vec4f"` or `"f32"`. */
  readonly type: string;
  /** Loads of the dimension. */
  readonly loads: number;
  /** WGSL that adds up one load into an f32. */
  readonly sum: (x: string) => string;
  /** WGSL for the largest value of one load. */
  readonly top: (x: string) => string;
}

/**
 * Chooses vec4 loads for sizes that are a multiple of four, scalar loads for others.
 *
 * @param size Elements of the contiguous dimension
 * @returns The kind of load
 */
export function lanesOf(size: number): Lanes {
  return size % 4 === 0
    ? {
      lanes: 4,
      type: "vec4f",
      loads: size / 4,
      sum: (x) => `dot(${x}, vec4f(1.0f))`,
      top: (x) => `max(max(${x}.x, ${x}.y), max(${x}.z, ${x}.w))`,
    }
    : { lanes: 1, type: "f32", loads: size, sum: (x) => x, top: (x) => x };
}

/** Rows and the threads that share one. */
export interface RowWork {
  /** Number of rows. */
  readonly rows: number;
  /** Threads of a row. */
  readonly threads: Threads;
}

/**
 * Makes the grid of a row kernel.
 *
 * @param work Rows and threads
 * @returns Workgroups in x, y and z
 */
export function rowGrid({ rows, threads }: RowWork): readonly [number, number, number] {
  return foldGrid(threads === 1 ? Math.ceil(rows / ROWS_OF_ONE) : rows);
}

/**
 * Opens `main` of a row kernel: declares `row`, and returns when it is past the last.
 *
 * @param work Rows and threads
 * @returns WGSL up to the body, without the closing brace
 */
export function rowMain({ rows, threads }: RowWork): string {
  const row = threads === 1 ? `(${GROUP_INDEX}) * ${ROWS_OF_ONE}u + lid` : GROUP_INDEX;
  return `@compute @workgroup_size(${threads === 1 ? ROWS_OF_ONE : threads})
fn main(${GROUP_BUILTINS}) {
  let row = ${row};
  if (row >= ${rows}u) { return; }
`;
}

/**
 * Loops over the items of a row, divided among its threads, several items per iteration.
 *
 * @param work Items of a row and threads that share it
 * @param body WGSL for several items, given the names of their indices (u32, from 0 in the row)
 * @returns WGSL
 */
export function rowEach(
  { items, threads }: { readonly items: number; readonly threads: Threads },
  body: (indices: readonly string[]) => string,
): string {
  const unroll = 4;
  const full = Math.floor(items / threads);
  const start = threads === 1 ? "0u" : "lid";
  const some = (count: number, first: string): string => {
    const names = Array.from({ length: count }, (_, k) => `i${k}`);
    const lets = names.map((name, k) => `let ${name} = ${first} + ${k * threads}u;`).join(" ");
    return `  { ${lets}\n${body(names)} }\n`;
  };
  const iterations = Math.floor(full / unroll);
  const looped = iterations > 2;
  const parts: string[] = [];
  if (looped) {
    const step = unroll * threads;
    parts.push(
      `  for (var n = 0u; n < ${iterations}u; n += 1u) {\n${some(unroll, `${start} + n * ${step}u`)}  }\n`,
    );
  } else {
    parts.push(repeat(iterations, (k) => some(unroll, `${start} + ${k * unroll * threads}u`)));
  }
  const left = full % unroll;
  if (left > 0) parts.push(some(left, `${start} + ${iterations * unroll * threads}u`));
  const rest = items - full * threads;
  if (rest > 0) parts.push(`  if (lid < ${rest}u) {\n${some(1, `${start} + ${full * threads}u`)}  }\n`);
  return parts.join("");
}

/**
 * Declares the workgroup memory that {@link rowReduce} needs.
 *
 * @param threads Threads of a row
 * @returns WGSL, empty for one thread
 */
export function rowMemory(threads: Threads): string {
  if (threads === 1) return "";
  return `var<workgroup> each: array<f32, ${threads}>;\nvar<workgroup> some: array<f32, ${half(threads)}>;\n`;
}

/**
 * Combines a variable over the threads of a row in a fixed order; every thread holds the result.
 *
 * @param threads Threads of a row
 * @param options `name`: the f32 `var` to combine; `by`: how
 * @returns WGSL with two barriers, empty for one thread
 */
export function rowReduce(
  threads: Threads,
  { name, by }: { readonly name: string; readonly by: "sum" | "max" },
): string {
  if (threads === 1) return "";
  const join = (terms: readonly string[]): string =>
    by === "sum" ? terms.join(" + ") : terms.reduce((a, b) => `max(${a}, ${b})`);
  const groups = half(threads);
  const first = Array.from({ length: threads / groups }, (_, k) => `each[lid + ${k * groups}u]`);
  const second = Array.from({ length: groups }, (_, k) => `some[${k}]`);
  return `  each[lid] = ${name};
  workgroupBarrier();
  if (lid < ${groups}u) { some[lid] = ${join(first)}; }
  workgroupBarrier();
  ${name} = ${join(second)};
`;
}

/** Partial results of the first of two rounds: about the square root of the threads. */
function half(threads: Threads): number {
  return threads <= 64 ? 8 : 16;
}

/** A kernel that writes each item of its output once. */
export interface FlatWork {
  /** Name of the kernel. */
  readonly name: string;
  /** Number of items, one thread each. */
  readonly items: number;
  /** Element types of the inputs. */
  readonly inputs: readonly string[];
  /** Element types of the outputs. */
  readonly outputs: readonly string[];
  /** Names of bindings that hold f16; none when absent. */
  readonly f16?: F16Bindings;
  /** WGSL for item `i` (u32). */
  readonly body: string;
  /** Declarations before `main`. */
  readonly functions?: string;
  /** Floating-point operations; 0 when absent. */
  readonly flops?: number;
}

/**
 * Makes a kernel with one thread per item.
 *
 * @param work Items, bindings and the body
 * @returns The kernel
 */
export function flatKernel(
  { name, items, inputs, outputs, f16, body, functions, flops }: FlatWork,
): Kernel {
  return {
    name,
    grid: foldGrid(Math.ceil(items / FLAT_THREADS)),
    flops: flops ?? 0,
    code: `${storage(inputs, outputs, f16)}${functions ?? ""}@compute @workgroup_size(${FLAT_THREADS})
fn main(${GROUP_BUILTINS}) {
  let i = (${GROUP_INDEX}) * ${FLAT_THREADS}u + lid;
  if (i >= ${items}u) { return; }
${body}}
`,
  };
}
