/**
 * One kernel for a whole group of elementwise operations, with sums of any of its values on the side.
 *
 * @module
 */

import { type Expression, render } from "./expression.ts";
import { foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel } from "./kernel.ts";

const THREADS = 64;

/** A fused group: what to compute, store and sum. */
export interface Elementwise {
  /** What is computed, over which iteration space. */
  readonly expression: Expression;
  /** Step numbers to store, one array each. */
  readonly outputs: readonly number[];
  /** `overwrites[i]` is the input whose buffer output `i` reuses, element by element; null for a buffer of its own. */
  readonly overwrites?: readonly (number | null)[];
  /** Step numbers to sum over all elements: `sums.length x groups` partial sums, one row a step. */
  readonly sums?: readonly number[];
  /** Label for the profiler. */
  readonly label: string;
}

/**
 * How many partial sums one launch leaves for each summed value.
 *
 * @param size Elements of the iteration space
 * @returns Workgroups of the launch
 */
export function partialCount(size: number): number {
  return Math.min(512, Math.max(1, Math.ceil(size / (THREADS * 16))));
}

/**
 * The kernel of a fused group. Bindings: inputs, outputs that overwrite nothing, then the partial sums if any.
 *
 * @param group The group
 * @returns The kernel; a thread handles four neighbours where all operands allow it
 */
export function elementwise(group: Elementwise): Kernel {
  const { expression, outputs, label } = group;
  const sums = group.sums ?? [];
  const overwrites = group.overwrites ?? outputs.map(() => null);
  const rendering = render(expression, { lanes: 4 });
  const { lanes, types } = rendering;
  const type = lanes === 4 ? "vec4<f32>" : "f32";
  const size = expression.shape.reduce((n, d) => n * d, 1);
  const count = Math.ceil(size / lanes);
  const groups = sums.length > 0 ? partialCount(size) : Math.ceil(count / THREADS);

  const target = outputs.map((_, i) => overwrites[i] === null ? `o${i}` : `a${overwrites[i]}`);
  const bindings: string[] = types.map((t, k) =>
    `var<storage, ${overwrites.includes(k) ? "read_write" : "read"}> a${k}: array<${t}>;`
  );
  outputs.forEach((_, i) => {
    if (overwrites[i] === null) bindings.push(`var<storage, read_write> o${i}: array<${type}>;`);
  });
  if (sums.length > 0) bindings.push("var<storage, read_write> partial: array<f32>;");
  const declarations = bindings.map((b, i) => `@group(0) @binding(${i}) ${b}`).join("\n");
  const stores = outputs.map((step, i) => `${target[i]}[i] = v${step};`).join("\n");
  const compute = expression.steps.filter((s) => s.kind === "compute").length;

  if (sums.length === 0) {
    const code = `${declarations}
@compute @workgroup_size(${THREADS}) fn main(${GROUP_BUILTINS}) {
let i = (${GROUP_INDEX}) * ${THREADS}u + lid;
if (i >= ${count}u) { return; }
${rendering.body("i")}
${stores}
}`;
    return { name: label, code, grid: foldGrid(groups), flops: size * compute };
  }

  // Each thread walks its elements in a fixed order, then the group adds 64 numbers in a fixed tree.
  const perGroup = Math.ceil(count / groups);
  const tail = lanes === 4 && size % 4 !== 0;
  const mask = (v: string): string =>
    tail ? `select(vec4<f32>(), ${v}, vec4u(i * 4u) + vec4u(0u, 1u, 2u, 3u) < vec4u(${size}u))` : v;
  const add = (s: number, v: string): string =>
    lanes === 4 ? `{ let m = ${mask(v)}; s${s} += (m.x + m.y) + (m.z + m.w); }` : `s${s} += ${v};`;
  const code = `${declarations}
var<workgroup> tree: array<f32, ${THREADS}>;
@compute @workgroup_size(${THREADS}) fn main(${GROUP_BUILTINS}) {
let g = ${GROUP_INDEX};
if (g >= ${groups}u) { return; }
let end = min((g + 1u) * ${perGroup}u, ${count}u);
${sums.map((_, s) => `var s${s} = 0.0f;`).join(" ")}
for (var i = g * ${perGroup}u + lid; i < end; i += ${THREADS}u) {
${rendering.body("i")}
${stores}
${sums.map((step, s) => add(s, `v${step}`)).join("\n")}
}
${
    sums.map((_, s) =>
      `${treeSum("tree", `s${s}`, THREADS)}if (lid == 0u) { partial[${s * groups}u + g] = tree[0]; }\n`
    )
      .join("workgroupBarrier();\n")
  }}`;
  return { name: label, code, grid: foldGrid(groups), flops: size * (compute + sums.length) };
}

/**
 * Adds one value of each thread of a workgroup, in a fixed order.
 *
 * @param name Workgroup array with a place for each thread
 * @param value The thread's value
 * @param threads Threads of the workgroup, a power of two
 * @returns WGSL statements that leave the sum in `name[0]`
 */
export function treeSum(name: string, value: string, threads: number): string {
  let text = `${name}[lid] = ${value};\nworkgroupBarrier();\n`;
  for (let half = threads / 2; half >= 1; half /= 2) {
    text += `if (lid < ${half}u) { ${name}[lid] += ${name}[lid + ${half}u]; }\nworkgroupBarrier();\n`;
  }
  return text;
}
