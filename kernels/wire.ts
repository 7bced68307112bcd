/**
 * Values on their way to other ranks, in fewer bits.
 *
 * | code | bits | block |
 * | --- | --- | --- |
 * | `bf16` | the upper half of an f32, rounded to nearest even | 128 words of two codes |
 * | `int8` | a whole number from -127 to 127, times the largest of its block over 127 | the f32 scale, then 64 words of four codes |
 *
 * A block has 256 values, and blocks lie one after the other. What a code leaves of a value is its residual, which the next exchange
 * adds to the value that it sends (error feedback). How many blocks there are is up to the bindings, so that one text serves all sizes.
 * A block that holds a number which is not finite has no finite one after it was sent.
 *
 * Source: Dettmers et al., "8-bit Optimizers via Block-wise Quantization", arXiv 2110.02861, section 2, for the blocks; Karimireddy et
 * al., "Error Feedback Fixes SignSGD", arXiv 1901.09847.
 *
 * @module
 */

import { f32, foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, storage } from "./kernel.ts";

/** How values are coded. */
export type WireCode = "bf16" | "int8";

/** Values of a block. */
export const WIRE_BLOCK = 256;
/** Words of a block. */
export const WIRE_WORDS: Readonly<Record<WireCode, number>> = {
  bf16: WIRE_BLOCK / 2,
  int8: 1 + WIRE_BLOCK / 4,
};

/** Threads of a block: each has four values. */
const THREADS = WIRE_BLOCK / 4;
/** Blocks whose largest value is below it are sent as zeros: its scale would be no normal number. */
const SMALLEST = 1e-30;
const INFINITE = 0x7f800000;

/** What a kernel codes. */
export interface WireOptions {
  readonly code: WireCode;
  /** Blocks of the buffers that are bound. */
  readonly blocks: number;
}

const FUNCTIONS: Readonly<Record<WireCode, string>> = {
  bf16: `fn rounded(bits: vec4u) -> vec4u {
  let odd = (bits >> vec4u(16u)) & vec4u(1u);
  let finite = (bits & vec4u(${INFINITE}u)) < vec4u(${INFINITE}u);
  return select((bits >> vec4u(16u)) | select(vec4u(0u), vec4u(64u), (bits & vec4u(8388607u)) > vec4u(0u)),
    (bits + vec4u(32767u) + odd) >> vec4u(16u), finite);
}
`,
  int8: `fn codesOf(word: u32) -> vec4f {
  return vec4f(bitcast<vec4i>(vec4u(word) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u));
}
`,
};

/** Workgroup memory of what codes. */
const SHARED: Readonly<Record<WireCode, string>> = {
  bf16: "",
  int8: `var<workgroup> tops: array<u32, ${THREADS}>;\n`,
};

/** WGSL for the values of a thread, of words that begin at `at`. */
function valuesOf(code: WireCode, { name, at }: { readonly name: string; readonly at: string }): string {
  if (code === "int8") return `codesOf(${name}[${at} + 1u + lid]) * bitcast<f32>(${name}[${at}])`;
  const [low, high] = ["2u * lid", "2u * lid + 1u"].map((word) => `${name}[${at} + ${word}]`);
  return `bitcast<vec4f>(vec4u(${low} << 16u, ${low} & 4294901760u, ${high} << 16u, ${high} & 4294901760u))`;
}

/** WGSL that codes the values `v` of all threads, and sets `sent` to what the codes stand for. */
function coded(code: WireCode, out: string): string {
  if (code === "bf16") {
    return `  let codes = rounded(bitcast<vec4u>(v));
  let sent = bitcast<vec4f>(codes << vec4u(16u));
  if (live) {
    ${out}[base + 2u * lid] = codes.x | (codes.y << 16u);
    ${out}[base + 2u * lid + 1u] = codes.z | (codes.w << 16u);
  }
`;
  }
  const halves = [32, 16, 8, 4, 2, 1].map((half) =>
    `  if (lid < ${half}u) { tops[lid] = max(tops[lid], tops[lid + ${half}u]); }\n  workgroupBarrier();\n`
  );
  // The order of the bits is that of the numbers, infinities and NaN above all.
  return `  let sizes = bitcast<vec4u>(v) & vec4u(2147483647u);
  tops[lid] = max(max(sizes.x, sizes.y), max(sizes.z, sizes.w));
  workgroupBarrier();
${halves.join("")}  let top = tops[0];
  let finite = top < ${INFINITE}u;
  let scale = select(top, bitcast<u32>(bitcast<f32>(top) / 127.0f), finite);
  let inverse = select(127.0f / bitcast<f32>(top), 0.0f, bitcast<f32>(top) < ${f32(SMALLEST)});
  let codes = select(vec4i(1i), vec4i(clamp(round(v * inverse), vec4f(-127.0f), vec4f(127.0f))), finite);
  let sent = vec4f(codes) * bitcast<f32>(scale);
  if (live) {
    let bytes = bitcast<vec4u>(codes) & vec4u(255u);
    ${out}[base + 1u + lid] = bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
    if (lid == 0u) { ${out}[base] = scale; }
  }
`;
}

/** What all kernels begin with: the block, whether there is one, its first word, and the first value of the thread. */
function head(code: WireCode): string {
  return `@compute @workgroup_size(${THREADS}) fn main(${GROUP_BUILTINS}) {
  let block = ${GROUP_INDEX};
  let live = block < arrayLength(&o0) / ${THREADS}u;
  let base = block * ${WIRE_WORDS[code]}u;
  let first = block * ${THREADS}u + lid;
`;
}

/**
 * Codes how far values have come from a start, and what was left of them before.
 *
 * Bindings: a0 `start[N / 4]` vec4f; a1 `now[N / 4]` vec4f; o0 `residual[N / 4]` vec4f, added and replaced; o1 the blocks, u32.
 *
 * @param options The code, and how many blocks
 * @returns The kernel
 */
export function packChange({ code, blocks }: WireOptions): Kernel {
  return {
    name: `pack_${code} ${blocks * WIRE_BLOCK}`,
    grid: foldGrid(blocks),
    flops: 8 * blocks * WIRE_BLOCK,
    code: `${storage(["vec4f", "vec4f"], ["vec4f", "u32"])}${SHARED[code]}${FUNCTIONS[code]}${
      head(code)
    }  var v = vec4f();
  if (live) { v = (a0[first] - a1[first]) + o0[first]; }
${coded(code, "o1")}  if (live) { o0[first] = v - sent; }
}
`,
  };
}

/**
 * Codes the mean of the same blocks of several ranks. What its code leaves of it is added to the residual of this rank, as often as there
 * are ranks, so that the next mean makes up for it.
 *
 * Bindings: a0 the blocks of all ranks, one rank after the other, u32; o0 `residual[N / 4]` vec4f of these blocks; o1 the blocks, u32.
 *
 * @param options The code, how many blocks each rank has, and how many ranks there are
 * @returns The kernel
 */
export function packMean({ code, blocks, ranks }: WireOptions & { readonly ranks: number }): Kernel {
  return {
    name: `mean_${code} ${ranks}x${blocks * WIRE_BLOCK}`,
    grid: foldGrid(blocks),
    flops: (2 * ranks + 6) * blocks * WIRE_BLOCK,
    code: `${storage(["u32"], ["vec4f", "u32"])}${SHARED[code]}${FUNCTIONS[code]}${
      head(code)
    }  var v = vec4f();
  if (live) {
    let words = arrayLength(&o0) / ${THREADS}u * ${WIRE_WORDS[code]}u;
    for (var r = 0u; r < ${ranks}u; r++) {
      let at = r * words + base;
      v += ${valuesOf(code, { name: "a0", at: "at" })};
    }
    v /= ${f32(ranks)};
  }
${coded(code, "o1")}  if (live) { o0[first] += (v - sent) * ${f32(ranks)}; }
}
`,
  };
}

/**
 * Goes from a start as far as blocks say.
 *
 * Bindings: a0 the blocks, u32; a1 `start[N / 4]` vec4f; o0 `now[N / 4]` vec4f.
 *
 * @param options The code, and how many blocks
 * @returns The kernel
 */
export function unpackChange({ code, blocks }: WireOptions): Kernel {
  return {
    name: `unpack_${code} ${blocks * WIRE_BLOCK}`,
    grid: foldGrid(blocks),
    flops: 2 * blocks * WIRE_BLOCK,
    code: `${storage(["u32", "vec4f"], ["vec4f"])}${FUNCTIONS[code]}${
      head(code)
    }  if (live) { o0[first] = a1[first] - ${valuesOf(code, { name: "a0", at: "base" })}; }
}
`,
  };
}
