/**
 * Choosing from rows of scores: which are likely enough, and a draw.
 *
 * Legend: B rows, V scores of a row.
 *
 * @module
 */

import { type Kernel, storage } from "./kernel.ts";
import { THREEFRY, unit } from "./random.ts";
import { rowGrid, rowMain, rowMemory, rowReduce, type Threads } from "./rows.ts";

/** Rows and scores of a kernel that chooses. */
export interface SamplingSizes {
  /** Rows B. */
  readonly rows: number;
  /** Scores of a row, V. */
  readonly width: number;
  /** Threads of a row; `rowThreads` recommends them. */
  readonly threads: Threads;
}

/** WGSL `rank(x: f32) -> u32`, which grows with x; both zeros are equal. */
const RANK = `fn rank(x: f32) -> u32 {
  let bits = bitcast<u32>(select(x, 0.0f, x == 0.0f));
  return select(bits | 0x80000000u, ~bits, bits >> 31u == 1u);
}
`;

/** Loops over the scores of a row, each thread over every so manieth. */
function eachScore({ width, threads }: SamplingSizes, body: string): string {
  const start = threads === 1 ? "0u" : "lid";
  return `  for (var i = ${start}; i < ${width}u; i += ${threads}u) {\n${body}  }\n`;
}

/**
 * Finds for each row the largest threshold such that the keys from it on weigh at least as much as asked; the least number
 * where all of them weigh less. The threshold is found bit by bit, in 32 sums over the row.
 *
 * Bindings: a0 `keys[B,V]`, a1 `mass[B]`, and unless each key weighs 1, a2 `weights[B,V]`; o0 `threshold[B]`.
 *
 * @param options Sizes, and whether each key weighs 1
 * @returns The kernel
 */
export function massThreshold(options: SamplingSizes & { readonly counted: boolean }): Kernel {
  const { rows, width, threads, counted } = options;
  const weight = counted ? "1.0f" : `a2[row * ${width}u + i]`;
  return {
    name: `mass_threshold ${rows}x${width}${counted ? " counted" : ""}`,
    grid: rowGrid(options),
    flops: 32 * rows * width,
    code: `${storage(["f32", "f32", ...(counted ? [] : ["f32"])], ["f32"])}${rowMemory(threads)}${RANK}${
      rowMain(options)
    }  var least = 0u;
  for (var bit = 0u; bit < 32u; bit += 1u) {
    let next = least | (0x80000000u >> bit);
    var mass = 0.0f;
${eachScore(options, `    mass += select(0.0f, ${weight}, rank(a0[row * ${width}u + i]) >= next);\n`)}${
      rowReduce(threads, { name: "mass", by: "sum" })
    }    if (mass >= a1[row]) { least = next; }
  }
  let bits = select(~least, least & 0x7fffffffu, least >> 31u == 1u);
  ${threads === 1 ? "" : "if (lid == 0u) "}{ o0[row] = select(bitcast<f32>(bits), -3.4e38f, least == 0u); }
}
`,
  };
}

/**
 * Draws an index of each row with probability `softmax(scores)`: the first at which the running sum of probabilities exceeds
 * a random number, which depends on the seed of the row and on `places` alone.
 *
 * Bindings: a0 `scores[B,V]`, a1 `seeds[B]` i32, a2 `places[B]` i32; o0 `index[B]` i32.
 *
 * @param options Sizes, and a number that keeps these draws apart from others with the same seed
 * @returns The kernel
 */
export function categorical(options: SamplingSizes & { readonly stream: number }): Kernel {
  const { rows, width, threads, stream } = options;
  const each = Math.ceil(width / threads), shared = threads > 1;
  const at = (i: string): string => `a0[row * ${width}u + ${i}]`;
  return {
    name: `categorical ${rows}x${width}`,
    grid: rowGrid(options),
    flops: 3 * rows * width,
    code: `${storage(["f32", "i32", "i32"], ["i32"])}${rowMemory(threads)}${
      shared ? `var<workgroup> sums: array<f32, ${threads}>;\n` : ""
    }${THREEFRY}${rowMain(options)}  var high = -3.4e38f;
${eachScore(options, `    high = max(high, ${at("i")});\n`)}${rowReduce(threads, { name: "high", by: "max" })}
  // Each thread has neighbouring scores, so that sums run in the order of the indices.
  let begin = ${shared ? `lid * ${each}u` : "0u"};
  let end = min(begin + ${each}u, ${width}u);
  var own = 0.0f;
  for (var i = begin; i < end; i += 1u) { own += exp(${at("i")} - high); }
  var before = 0.0f;
  var total = own;
${
      shared
        ? `  sums[lid] = own;
  workgroupBarrier();
  total = 0.0f;
  for (var k = 0u; k < ${threads}u; k += 1u) {
    before += select(0.0f, sums[k], k < lid);
    total += sums[k];
  }
`
        : ""
    }  let words = threefry2x32(vec2u(u32(a1[row]), ${stream}u), vec2u(u32(a2[row]), 0u));
  let wanted = ${unit("words.x")} * total;
  // The last thread with any weight takes what rounding leaves over.
  if (own > 0.0f && before <= wanted && (wanted < before + own || before + own >= total)) {
    var sum = before;
    var chosen = begin;
    for (var i = begin; i < end; i += 1u) {
      let weight = exp(${at("i")} - high);
      if (weight > 0.0f && sum <= wanted) { chosen = i; }
      sum += weight;
    }
    o0[row] = i32(chosen);
  }
}
`,
  };
}

/**
 * Copies scores, with the lowest one for each token that would repeat a run of tokens.
 *
 * Bindings: a0 `scores[B,V]`, a1 `tokens[B,S]` i32, a2 `lengths[B]` i32, a3 `sizes[B]` i32, 0 where any run may repeat;
 * o0 `out[B,V]`.
 *
 * @param options Sizes; `capacity`: tokens S
 * @returns The kernel
 */
export function banNgrams(options: SamplingSizes & { readonly capacity: number }): Kernel {
  const { rows, width, threads, capacity } = options, start = threads === 1 ? "0" : "i32(lid)";
  return {
    name: `ban_ngrams ${rows}x${width} of ${capacity}`,
    grid: rowGrid(options),
    flops: 0,
    code: `${storage(["f32", "i32", "i32", "i32"], ["f32"])}${rowMain(options)}${
      eachScore(options, `    o0[row * ${width}u + i] = a0[row * ${width}u + i];\n`)
    }${threads === 1 ? "" : "  storageBarrier();\n"}  let size = a3[row];
  let first = row * ${capacity}u;
  // The tokens that a run would begin with, and the last place where one that ended may begin.
  let given = u32(a2[row] - size + 1);
  let last = a2[row] - size;
  if (size < 1) { return; }
  for (var i = ${start}; i <= last; i += ${threads}) {
    var same = true;
    for (var j = 0; j < size - 1 && same; j += 1) {
      same = a1[first + u32(i + j)] == a1[first + given + u32(j)];
    }
    if (same) { o0[row * ${width}u + u32(a1[first + u32(i + size - 1)])] = -3.4e38f; }
  }
}
`,
  };
}
