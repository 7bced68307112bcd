/**
 * AdamW's moments as 8-bit codes in blocks, each with its scale.
 *
 * A code is the index of one of 256 numbers: 0, 1, and between them seven decades from 1e-7, of which each has twice as many
 * numbers as the one below. Codes of the first moment have a sign, those of the second twice as many numbers in each decade.
 *
 * Source: Dettmers et al., "8-bit Optimizers via Block-wise Quantization", arXiv 2110.02861, section 2: dynamic tree
 * quantization, with the numbers of its library, bitsandbytes.
 *
 * @module
 */

import { f32, foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, repeat, storage } from "./kernel.ts";

/** Elements of a block. */
export const BLOCK_8BIT = 256;
/** Words of a block: both scales, then four codes in each word of the first moment, and of the second. */
export const WORDS_8BIT: number = 2 + 2 * BLOCK_8BIT / 4;

/** Threads of a block: each has four elements. */
const THREADS = BLOCK_8BIT / 4;
/** Where the codes of the first moment end. */
const SECOND = 2 + BLOCK_8BIT / 4;

/** Options of {@link adamW8bit}. */
export interface AdamW8bitOptions {
  /** Elements of the parameter. */
  readonly items: number;
  /** Decay of the first moment. */
  readonly beta1: number;
  /** Decay of the second moment. */
  readonly beta2: number;
  /** Added to the root of the second moment. */
  readonly eps: number;
  /** Which outputs are written; the first two when absent. */
  readonly wanted?: readonly boolean[];
}

/**
 * Takes a step of Adam: unpacks the moments of a block, moves them towards the gradient, and packs them.
 *
 * Bindings: a0 `g[N]`; a1 `blocks[ceil(N / 256), 130]` u32; a2 `scalars[2]`, the step size and the correction of the root;
 * o0 `update[N]`; o1 `blocks` after the step; o2 the first moment and o3 the second one, `[N]`, before they are packed. Those
 * that are not wanted are not bound.
 *
 * @param options Sizes and decays
 * @returns The kernel
 */
export function adamW8bit(options: AdamW8bitOptions): Kernel {
  const { items, beta1, beta2, eps, wanted = [true, true] } = options, blocks = Math.ceil(items / BLOCK_8BIT);
  const types = ["f32", "u32", "f32", "f32"];
  const bound = types.flatMap((_, k) => wanted[k] ? [k] : []);
  const out = (k: number): string | null => wanted[k] ? `o${bound.indexOf(k)}` : null;
  const put = (k: number, place: string, value: string): string =>
    out(k) === null ? "" : `${out(k)}[${place}] = ${value};`;
  const largest = (half: number): string =>
    `  if (lid < ${half}u) { tops[lid] = max(tops[lid], tops[lid + ${half}u]); }\n  workgroupBarrier();\n`;
  return {
    name: `adamw_8bit ${items}`,
    grid: foldGrid(blocks),
    flops: 60 * items,
    code: `${storage(["f32", "u32", "f32"], bound.map((k) => types[k]))}${CODES}
var<workgroup> tops: array<vec2f, ${THREADS}>;
@compute @workgroup_size(${THREADS}) fn main(${GROUP_BUILTINS}) {
  let block = ${GROUP_INDEX};
  if (block >= ${blocks}u) { return; }
  let base = block * ${WORDS_8BIT}u;
  let first = block * ${BLOCK_8BIT}u + lid * 4u;
  let scales = vec2f(bitcast<f32>(a1[base]), bitcast<f32>(a1[base + 1u]));
  let mWord = a1[base + 2u + lid];
  let vWord = a1[base + ${SECOND}u + lid];
  var m = vec4f();
  var v = vec4f();
${
      repeat(4, (k) =>
        `  if (first + ${k}u < ${items}u) {
    let g = a0[first + ${k}u];
    let mCode = (mWord >> ${8 * k}u) & 255u;
    let was = select(-1.0f, 1.0f, mCode >= 127u) * number(u32(abs(i32(mCode) - 127)), 0u);
    m[${k}] = ${f32(beta1)} * (was * scales.x) + ${f32(1 - beta1)} * g;
    v[${k}] = ${f32(beta2)} * (number((vWord >> ${8 * k}u) & 255u, 1u) * scales.y) + ${
          f32(1 - beta2)
        } * (g * g);
    ${put(0, `first + ${k}u`, `-(m[${k}] * a2[0]) / (sqrt(v[${k}]) * a2[1] + ${f32(eps)})`)}
    ${put(2, `first + ${k}u`, `m[${k}]`)}
    ${put(3, `first + ${k}u`, `v[${k}]`)}
  }
`)
    }${
      out(1) === null ? "" : `  let size = abs(m);
  tops[lid] = vec2f(max(max(size.x, size.y), max(size.z, size.w)), max(max(v.x, v.y), max(v.z, v.w)));
  workgroupBarrier();
${[32, 16, 8, 4, 2, 1].map(largest).join("")}  let top = tops[0];
  let scaled = select(vec2f(), 1.0f / top, top > vec2f());
  var mCodes = 0u;
  var vCodes = 0u;
${
        repeat(4, (k) =>
          `  {
    let index = code(size[${k}] * scaled.x, 0u, select(127u, 128u, m[${k}] > 0.0f));
    mCodes |= select(127u - index, 127u + index, m[${k}] > 0.0f) << ${8 * k}u;
    vCodes |= code(v[${k}] * scaled.y, 1u, 255u) << ${8 * k}u;
  }
`)
      }  ${out(1)}[base + 2u + lid] = mCodes;
  ${out(1)}[base + ${SECOND}u + lid] = vCodes;
  if (lid == 0u) {
    ${out(1)}[base] = bitcast<u32>(top.x);
    ${out(1)}[base + 1u] = bitcast<u32>(top.y);
  }
`
    }}
`,
  };
}

/** Numbers of a code without its sign, and the code of a number; \`more\` is 0 for signed codes and 1 for others. */
const CODES = `fn decade(i: u32) -> f32 {
  switch (i) {
    case 0u: { return 1e-6f; }
    case 1u: { return 1e-5f; }
    case 2u: { return 1e-4f; }
    case 3u: { return 1e-3f; }
    case 4u: { return 1e-2f; }
    case 5u: { return 1e-1f; }
    default: { return 1.0f; }
  }
}
fn number(index: u32, more: u32) -> f32 {
  if (index == 0u) { return 0.0f; }
  if (index == (128u << more) - more) { return 1.0f; }
  let i = firstLeadingBit(index + more) - more;
  let size = 1u << (i + more);
  let place = f32(index + more - size) + 0.5f;
  return decade(i) * (0.1f + 0.9f * (place / f32(size)));
}
// The nearest number: that of its place in its decade, or one of its neighbours.
fn code(x: f32, more: u32, last: u32) -> u32 {
  let i = u32(x >= 1e-6f) + u32(x >= 1e-5f) + u32(x >= 1e-4f) + u32(x >= 1e-3f) + u32(x >= 1e-2f) + u32(x >= 1e-1f);
  let size = 1u << (i + more);
  let place = floor((x / decade(i) - 0.1f) / 0.9f * f32(size));
  let index = min(last, size - more + u32(clamp(place, 0.0f, f32(size - 1u))));
  let below = index - 1u;
  let above = min(last, index + 1u);
  let near = abs(number(index, more) - x);
  if (abs(number(below, more) - x) < near) { return below; }
  if (abs(number(above, more) - x) < near) { return above; }
  return index;
}`;
