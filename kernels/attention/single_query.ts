/**
 * Attention of one query a sequence, as in generation: the threads of a workgroup share the keys.
 *
 * @module
 */

import { f32, foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, repeat, storage } from "../kernel.ts";
import { lanesOf, LOWEST, rowMemory, rowReduce, type Threads } from "../rows.ts";
import { tanhText } from "../tanh.ts";
import { type AttentionShape, visiblePairs } from "./frame.ts";

/** Options of {@link singleQueryAttention}. */
export interface SingleQueryOptions extends AttentionShape {
  /** Threads of a workgroup, which computes one head of one sequence: more than 1. */
  readonly threads: Threads;
}

/** Keys whose weights are in workgroup memory at a time. */
const CHUNK = 1024;

/**
 * The forward kernel for one query of each sequence, with the bindings of `attention`: a0 `q[B,1,H,D]`, a1 `k[B,S,G,D]`,
 * a2 `v[B,S,G,D]`, with `ranges` a3 `ranges[B,1,2]` i32; o0 `out[B,1,H,D]`, o1 `lse[B,1,H]`.
 *
 * Each thread scores keys of its own. Then the threads share the elements of the values, and several of them those of a
 * value.
 *
 * @param options Sizes, masks and threads
 * @returns The kernel
 */
export function singleQueryAttention(options: SingleQueryOptions): Kernel {
  const { batch, heads, kvHeads, dim, keys = 1, window, ranges = false, threads } = options;
  const { type, loads, sum } = lanesOf(dim);
  // Threads beyond the last whole slice of a value are idle; where a value is longer, each has several of its loads.
  const slices = Math.max(1, Math.floor(threads / loads)), each = Math.ceil(loads / threads);
  const range = ranges
    ? "a3[batch]"
    : `vec2i(${window === null || window === undefined ? 0 : Math.max(0, keys - window)}, ${keys})`;
  const lane = (m: number): string => each === 1 ? "lane" : `lid + ${m * threads}u`;
  const valid = (m: number): string =>
    each === 1 ? `lid < ${slices * loads}u` : `lid + ${m * threads}u < ${loads}u`;
  return {
    name: `attention ${batch}x1x${keys}x${heads}x${dim}`,
    grid: foldGrid(batch * heads),
    flops: 4 * dim * visiblePairs({ shape: options, keys, causal: true, window: window ?? null }),
    code: `${storage([type, type, type, ...(ranges ? ["vec2i"] : [])], [type, "f32"])}${rowMemory(threads)}
var<workgroup> query: array<${type}, ${loads}>;
var<workgroup> weights: array<f32, ${CHUNK}>;
var<workgroup> sums: array<${type}, ${threads}>;
@compute @workgroup_size(${threads}) fn main(${GROUP_BUILTINS}) {
  let row = ${GROUP_INDEX};
  if (row >= ${batch * heads}u) { return; }
  let batch = row / ${heads}u;
  let group = row % ${heads}u / ${heads / kvHeads}u;
  let range = ${range};
  let lo = max(range.x, 0);
  let hi = min(range.y, ${keys});
  let first = (batch * ${keys * kvHeads}u + group) * ${loads}u;
  let lane = lid % ${loads}u;
  let slice = i32(lid / ${loads}u);
  for (var d = lid; d < ${loads}u; d += ${threads}u) { query[d] = a0[row * ${loads}u + d]; }
  workgroupBarrier();
  var high = ${LOWEST};
  var total = 0.0f;
${repeat(each, (m) => `  var y${m} = ${type}();\n`)}  for (var base = lo; base < hi; base += ${CHUNK}) {
    let end = min(base + ${CHUNK}, hi);
    var top = ${LOWEST};
    for (var j = base + i32(lid); j < end; j += ${threads}) {
      let at = first + u32(j) * ${kvHeads * loads}u;
      var product = ${type}();
${dotText(loads)}      var s = ${sum("product")} * ${f32(options.scale)};
${cap(options)}      weights[j - base] = s;
      top = max(top, s);
    }
${rowReduce(threads, { name: "top", by: "max" })}    let next = max(high, top);
    let fade = exp(high - next);
    high = next;
    total *= fade;
    for (var j = base + i32(lid); j < end; j += ${threads}) {
      let weight = exp(weights[j - base] - high);
      weights[j - base] = weight;
      total += weight;
    }
    workgroupBarrier();
${
      repeat(each, (m) =>
        `    if (${valid(m)}) {
      y${m} *= fade;
      for (var j = base + slice; j < end; j += ${slices}) {
        y${m} = fma(${type}(weights[j - base]), a2[first + u32(j) * ${kvHeads * loads}u + ${lane(m)}], y${m});
      }
    }
`)
    }    workgroupBarrier();
  }
${rowReduce(threads, { name: "total", by: "sum" })}  let share = select(0.0f, 1.0f / total, total > 0.0f);
${result({ slices, loads, each, lane, valid })}  if (lid == 0u) { o1[row] = high + log(total); }
}
`,
  };
}

/** WGSL that adds up the slices of each element, and writes it. */
function result({ slices, loads, each, lane, valid }: {
  readonly slices: number;
  readonly loads: number;
  readonly each: number;
  readonly lane: (m: number) => string;
  readonly valid: (m: number) => string;
}): string {
  if (slices === 1) {
    return repeat(each, (m) => `  if (${valid(m)}) { o0[row * ${loads}u + ${lane(m)}] = y${m} * share; }\n`);
  }
  return `  sums[lid] = y0;
  workgroupBarrier();
  if (lid < ${loads}u) {
    var all = sums[lid];
    for (var k = 1u; k < ${slices}u; k += 1u) { all += sums[lid + k * ${loads}u]; }
    o0[row * ${loads}u + lid] = all * share;
  }
`;
}

/** WGSL that adds up the product of the query and a key, several loads at a time. */
function dotText(loads: number): string {
  const unroll = 8, looped = loads - loads % unroll;
  const one = (d: string): string => `        product = fma(query[${d}], a1[at + ${d}], product);\n`;
  return (looped === 0
    ? ""
    : `      for (var d = 0u; d < ${looped}u; d += ${unroll}u) {\n${
      repeat(unroll, (k) => one(`d + ${k}u`))
    }      }\n`) + repeat(loads - looped, (k) => one(`${looped + k}u`));
}

function cap({ softCap }: AttentionShape): string {
  if (softCap === undefined) return "";
  return `      s /= ${f32(softCap)};\n      s = ${tanhText("s", "f32")} * ${f32(softCap)};\n`;
}
