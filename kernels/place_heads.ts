/**
 * Keys and values of new tokens, placed in a cache.
 *
 * @module
 */

import type { Kernel } from "./kernel.ts";
import { flatKernel, lanesOf } from "./rows.ts";

/** Options of {@link placeHeads}. */
export interface PlaceHeadsOptions {
  /** Sequences B. */
  readonly batch: number;
  /** New tokens T of each sequence. */
  readonly time: number;
  /** Places S of the cache. */
  readonly capacity: number;
  /** Query heads H. */
  readonly heads: number;
  /** Key and value heads G. */
  readonly kvHeads: number;
  /** Elements of a head, D. */
  readonly dim: number;
  /** Leading elements of a head that are rotated, R. */
  readonly rotaryDim: number;
}

/**
 * Rotates queries and keys, and writes keys and values to a cache, in place: token t of a sequence to place `t + at`. Places
 * beyond the capacity are dropped.
 *
 * Bindings: a0 `q[B,T,H,D]`, a1 `k[B,T,G,D]`, a2 `v[B,T,G,D]`, a3 `angles[B,T,R]`, the cosines of R / 2 pairs and then their
 * sines, a4 `at[B]` i32; o0 `keys[B,S,G,D]`, o1 `values[B,S,G,D]`, o2 `turned[B,T,H,D]`.
 *
 * Source: Su et al. 2021, equation 34, with the pairing of Hugging Face checkpoints.
 *
 * @param options Sizes
 * @returns The kernel
 */
export function placeHeads(options: PlaceHeadsOptions): Kernel {
  const { batch, time, capacity, heads, kvHeads, dim, rotaryDim } = options;
  const { type, lanes } = lanesOf(rotaryDim % 8 === 0 && dim % 4 === 0 ? 4 : 1);
  const head = dim / lanes, half = rotaryDim / 2 / lanes, items = head - half; // pairs, then copies
  const all = heads + 2 * kvHeads;
  /** Moves the pair or the single load of an item, turned or not. */
  const move = (from: string, into: string, turned: boolean): string => {
    const rest = head > 2 * half
      ? `    if (item >= ${half}u) { ${into}[to + ${half}u] = ${from}[at + ${half}u]; return; }\n`
      : "";
    const pair = turned
      ? `    ${into}[to] = x * c - y * s;\n    ${into}[to + ${half}u] = y * c + x * s;\n`
      : `    ${into}[to] = x;\n    ${into}[to + ${half}u] = y;\n`;
    return `${rest}    let x = ${from}[at];\n    let y = ${from}[at + ${half}u];\n${pair}`;
  };
  const cached = (which: "k" | "v"): string =>
    `    let at = (row * ${kvHeads}u + own) * ${head}u + item;
    let to = ((batch * ${capacity}u + u32(place)) * ${kvHeads}u + own) * ${head}u + item;
${which === "k" ? move("a1", "o0", true) : move("a2", "o1", false)}`;
  return flatKernel({
    name: `place_heads ${batch}x${time}x${heads}x${dim}`,
    items: batch * time * all * items,
    inputs: [type, type, type, type, "i32"],
    outputs: [type, type, type],
    flops: 3 * batch * time * (heads + kvHeads) * rotaryDim,
    body: `  let item = i % ${items}u;
  let which = i / ${items}u % ${all}u;
  let row = i / ${items * all}u;
  let batch = row / ${time}u;
  let place = a4[batch] + i32(row % ${time}u);
  let pair = min(item, ${half - 1}u);
  let c = a3[row * ${2 * half}u + pair];
  let s = a3[row * ${2 * half}u + ${half}u + pair];
  if (which < ${heads}u) {
    let at = (row * ${heads}u + which) * ${head}u + item;
    let to = at;
${move("a0", "o2", true)}    return;
  }
  if (place < 0 || place >= ${capacity}) { return; }
  if (which < ${heads + kvHeads}u) {
    let own = which - ${heads}u;
${cached("k")}  } else {
    let own = which - ${heads + kvHeads}u;
${cached("v")}  }
`,
  });
}
