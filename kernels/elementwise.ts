/**
 * One kernel for a fused group of elementwise operations, which can also sum any of its values.
 *
 * @module
 */

import { type Expression, render } from "./expression.ts";
import { f16Header, halfType, toHalf } from "./f16.ts";
import { foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, repeat } from "./kernel.ts";

const THREADS = 64;
/** Threads of a group that sums: larger workgroups leave fewer partial sums. */
const SUMMING_THREADS = 256;

/** A fused group of elementwise operations: what to compute, store and sum. */
export interface Elementwise {
  /** What is computed, and its iteration space. */
  readonly expression: Expression;
  /** Step numbers to store, one array each. */
  readonly outputs: readonly number[];
  /** `overwrites[i]`: the input whose buffer output `i` overwrites in place; null for a buffer of its own. */
  readonly overwrites?: readonly (number | null)[];
  /** Whether each output is stored as f16; all are f32 when absent. */
  readonly half?: readonly boolean[];
  /** Step numbers to sum over all elements: `sums.length x partials` partial sums, one row per step. */
  readonly sums?: readonly number[];
  /** Workgroups, each of which leaves one partial sum per step; {@link partialCount} of a GPU when absent. */
  readonly partials?: number;
  /** How many groups of equal text, on different buffers, run in one launch; 1 when absent. */
  readonly parts?: number;
  /** Inputs whose buffer all parts share. */
  readonly shared?: readonly number[];
  /** Label for the profiler. */
  readonly label: string;
}

/**
 * Chooses the number of partial sums of a launch.
 *
 * @param size Elements of the iteration space
 * @param options `software`: whether the adapter is a software rasteriser, where barriers are expensive
 * @returns Workgroups of the launch
 */
export function partialCount(size: number, options: { readonly software: boolean }): number {
  const each = SUMMING_THREADS * 4 * (options.software ? 4 : 1);
  return Math.min(2048, Math.max(1, Math.ceil(size / each)));
}

/**
 * Bytes of workgroup memory that a group takes which sums.
 *
 * @param sums How many values it sums
 * @returns Bytes
 */
export function summingBytes(sums: number): number {
  // Up to four are one vector, and one of three takes the room of four.
  return 4 * SUMMING_THREADS * (sums % 4 === 3 ? sums + 1 : sums);
}

/**
 * The kernel of a fused group. Bindings: shared inputs; for each part its other inputs, then its outputs with
 * a buffer of their own; the partial sums if any, one part after the other.
 *
 * @param group The group
 * @returns The kernel; a thread handles four neighbours when all operands allow it
 */
export function elementwise(group: Elementwise): Kernel {
  const { expression, label, parts = 1, sums = [] } = group;
  const size = expression.shape.reduce((n, d) => n * d, 1);
  const compute = expression.steps.filter((s) => s.kind === "compute").length;
  const texts = Array.from({ length: parts }, (_, part) => partText(group, part));
  const count = Math.ceil(size / texts[0].lanes);
  const threads = sums.length > 0 ? SUMMING_THREADS : THREADS;
  const { partials = partialCount(size, { software: false }) } = group;
  const groups = sums.length > 0 ? partials : Math.ceil(count / threads);
  const bindings = [...texts[0].shared, ...texts.flatMap((text) => text.own)];
  if (sums.length > 0) bindings.push("var<storage, read_write> partial: array<f32>;");
  const body = (part: number): string =>
    sums.length === 0
      ? onceEach(texts[part], count)
      : summed(texts[part], { count, groups, sums: sums.length });
  const choose = parts === 1
    ? body(0)
    : `switch part {\n${repeat(parts, (part) => `case ${part}u: {\n${body(part)}\n}\n`)}default: {}\n}`;
  // Up to four sums are added as one vector, in the same order as alone, and all vectors between the same barriers.
  const vectors = Array.from({ length: Math.ceil(sums.length / 4) }, (_, i) => ({
    name: `tree${i}`,
    own: sums.slice(4 * i, 4 * i + 4).map((_, k) => 4 * i + k),
  }));
  const arrays = vectors.map(({ name, own }) =>
    `var<workgroup> ${name}: array<${own.length === 1 ? "f32" : `vec${own.length}<f32>`}, ${threads}>;\n`
  );
  const trees = treeSums(
    vectors.map(({ name, own }) => ({ name, value: vectorOf(own.map((s) => `s${s}`)) })),
    threads,
  );
  const puts = vectors.flatMap(({ name, own }) =>
    own.map((s, k) =>
      `partial[(part * ${sums.length}u + ${s}u) * ${groups}u + g] = ${name}[0]${
        own.length === 1 ? "" : `[${k}]`
      };`
    )
  );
  const join = vectors.length === 0 ? "" : `${trees}if (lid == 0u) {\n${puts.join("\n")}\n}\n`;
  const code = `${f16Header(bindings)}${bindings.map((b, i) => `@group(0) @binding(${i}) ${b}`).join("\n")}
${arrays.join("")}
@compute @workgroup_size(${threads}) fn main(${GROUP_BUILTINS}) {
let at = ${GROUP_INDEX};
if (at >= ${groups * parts}u) { return; }
let part = at / ${groups}u;
let g = at % ${groups}u;
${sums.map((_, s) => `var s${s} = 0.0f;\n`).join("")}${choose}
${join}}`;
  return {
    name: parts === 1 ? label : `${label}, ${parts} of them`,
    code,
    grid: foldGrid(groups * parts),
    flops: parts * size * (compute + sums.length),
  };
}

/** The bindings and statements of one part. */
interface PartText {
  readonly lanes: 1 | 4;
  /** Declarations of the shared inputs, and of the buffers of this part. */
  readonly shared: readonly string[];
  readonly own: readonly string[];
  /** Statements that compute and store element (or group of four) `i`. */
  readonly work: string;
  /** WGSL for the term of sum `s`. */
  term(s: number): string;
}

function partText(group: Elementwise, part: number): PartText {
  const { expression, outputs, half = [], sums = [], parts = 1, shared = [] } = group;
  const overwrites = group.overwrites ?? outputs.map(() => null);
  const suffix = parts === 1 ? "" : `_${part}`;
  const nameOf = (k: number): string => shared.includes(k) ? `a${k}` : `a${k}${suffix}`;
  const { lanes, types, body } = render(expression, { lanes: 4, nameOf });
  const type = lanes === 4 ? "vec4<f32>" : "f32";
  const size = expression.shape.reduce((n, d) => n * d, 1);
  const input = (k: number): string =>
    `var<storage, ${overwrites.includes(k) ? "read_write" : "read"}> ${nameOf(k)}: array<${types[k]}>;`;
  const inputs = types.map((_, k) => k);
  const target = outputs.map((_, i) => overwrites[i] === null ? `o${i}${suffix}` : nameOf(overwrites[i]!));
  const masked = (value: string): string =>
    size % 4 === 0
      ? value
      : `select(vec4<f32>(), ${value}, vec4u(i * 4u) + vec4u(0u, 1u, 2u, 3u) < vec4u(${size}u))`;
  return {
    lanes,
    shared: inputs.filter((k) => shared.includes(k)).map(input),
    own: [
      ...inputs.filter((k) => !shared.includes(k)).map(input),
      ...outputs.flatMap((_, i) =>
        overwrites[i] === null
          ? [`var<storage, read_write> ${target[i]}: array<${half[i] ? halfType(type) : type}>;`]
          : []
      ),
    ],
    work: `${body("i")}\n${
      outputs.map((step, i) => `${target[i]}[i] = ${half[i] ? toHalf(`v${step}`, type) : `v${step}`};`).join(
        "\n",
      )
    }`,
    term: (s) =>
      lanes === 4
        ? `{ let m = ${masked(`v${sums[s]}`)}; s${s} += (m.x + m.y) + (m.z + m.w); }`
        : `s${s} += v${sums[s]};`,
  };
}

/** One thread per element, or per group of four. */
function onceEach({ work }: PartText, count: number): string {
  return `let i = g * ${THREADS}u + lid;\nif (i < ${count}u) {\n${work}\n}`;
}

function vectorOf(values: readonly string[]): string {
  return values.length === 1 ? values[0] : `vec${values.length}<f32>(${values.join(", ")})`;
}

/** Each thread sums its elements in a fixed order; the workgroup then adds these sums in a fixed tree. */
function summed(
  { work, term }: PartText,
  { count, groups, sums }: { readonly count: number; readonly groups: number; readonly sums: number },
): string {
  const each = Math.ceil(count / groups);
  const start = `var i = g * ${each}u + lid;`;
  return `let end = min((g + 1u) * ${each}u, ${count}u);
${each > SUMMING_THREADS ? `for (${start} i < end; i += ${SUMMING_THREADS}u) {` : `${start}\nif (i < end) {`}
${work}
${repeat(sums, (s) => `${term(s)}\n`)}}`;
}

/**
 * Adds one value per thread of a workgroup, in a fixed order.
 *
 * @param name Workgroup array with one element per thread
 * @param value The thread's value
 * @param threads Threads of the workgroup, a power of two
 * @returns WGSL statements that leave the sum in `name[0]`
 */
export function treeSum(name: string, value: string, threads: number): string {
  return treeSums([{ name, value }], threads);
}

/** Adds up several values between the same barriers, each as {@link treeSum} does. */
function treeSums(
  trees: readonly { readonly name: string; readonly value: string }[],
  threads: number,
): string {
  let text = `${trees.map(({ name, value }) => `${name}[lid] = ${value};\n`).join("")}workgroupBarrier();\n`;
  for (let half = threads / 2; half >= 1; half /= 2) {
    const add = trees.map(({ name }) => `${name}[lid] += ${name}[lid + ${half}u];`).join(" ");
    text += `if (lid < ${half}u) { ${add} }\nworkgroupBarrier();\n`;
  }
  return text;
}
