/**
 * Dropout of the weights of attention: which weights are kept follows from a key, the step, and the place of the weight, so
 * that the gradients draw again what the forward kernel drew, and nothing is stored.
 *
 * A draw of Threefry decides about the weights of one query for four keys in a row, by 16 bits each.
 *
 * Source: Srivastava et al. 2014, "Dropout"; Salmon et al. 2011 (Threefry 2x32).
 *
 * @module
 */

import { f32, type Kernel, repeat } from "../kernel.ts";
import { THREEFRY, threefry2x32 } from "../random.ts";
import { flatKernel } from "../rows.ts";
import { type Frame, queryRow } from "./frame.ts";
import { blocksOf, columnAt, eachColumn } from "./thread_block.ts";

/** Sizes of attention whose weights are dropped. */
export interface DroppedShape {
  readonly batch: number;
  readonly time: number;
  readonly keys: number;
  readonly heads: number;
  /** The share of weights that are dropped, at least 0 and below 1. */
  readonly rate: number;
}

/** Words of 16 bits below `least` drop a weight; the factor of the others keeps the sum of all as it is expected to be. */
function rule(rate: number): { readonly least: number; readonly factor: number } {
  const least = Math.min(65535, Math.round(rate * 65536));
  return { least, factor: 65536 / (65536 - least) };
}

/** WGSL `drops(row, four) -> vec4f`: the factors of the weights of a query and head for keys `4 * four` to `4 * four + 3`. */
function dropsText({ rate, draw }: { readonly rate: number; readonly draw: string }): string {
  const { least, factor } = rule(rate);
  return `${THREEFRY}
fn drops(row: u32, four: u32) -> vec4f {
  let key = vec2u((u32(${draw}[0]) << 16u) | u32(${draw}[1]), u32(${draw}[2]));
  let words = threefry2x32(key, vec2u(row, four));
  let bits = vec4u(words.x & 0xffffu, words.x >> 16u, words.y & 0xffffu, words.y >> 16u);
  return select(vec4f(), vec4f(${f32(factor)}), bits >= vec4u(${least}u));
}
`;
}

/** Declares `drops`; empty without dropout. */
export function declareDrops({ shape: { dropout: rate }, inputs: { draw } }: Frame): string {
  return rate === undefined ? "" : dropsText({ rate, draw });
}

/** WGSL for the factors of a row and four keys from `key` on, a multiple of four; 1 without dropout. */
export function dropsOf({ shape }: Frame, row: string, key: string): string {
  return shape.dropout === undefined ? "1.0f" : `drops(${row}, ${key} / 4u)`;
}

/** WGSL for the factors of four rows and one key. */
export function dropsOfRows({ shape }: Frame, rows: readonly string[], key: string): string {
  if (shape.dropout === undefined) return "1.0f";
  return `vec4f(${rows.map((row) => `drops(${row}, ${key} / 4u)[${key} % 4u]`).join(", ")})`;
}

/** Multiplies the block `name{j}_{i}`, whose columns are keys and whose quads are queries, by its factors. */
export function dropKeys(frame: Frame, name: string): string {
  if (frame.shape.dropout === undefined) return "";
  const { x, y } = blocksOf(frame), { count } = frame, lanes = [..."xyzw"];
  const row = (i: number, lane: string): string =>
    queryRow(frame, { i: `min(u32(at${i}.${lane} - offset), ${count - 1}u)`, count });
  const quad = (q: number, i: number): string =>
    `    { let four = u32(${columnAt(frame, 4 * q)}) / 4u;\n${
      lanes.map((lane, r) => `      let r${r} = drops(${row(i, lane)}, four);\n`).join("")
    }${
      lanes.map((lane, c) =>
        `      ${name}${4 * q + c}_${i} *= vec4f(${lanes.map((_, r) => `r${r}.${lane}`).join(", ")});\n`
      ).join("")
    }    }\n`;
  return repeat(x.quads, (q) => repeat(y.quads, (i) => quad(q, i)));
}

/** Declares `m{j}_{i}`, the factors of the query `h{j}` in column j and the keys of quad i. */
export function declareColumnDrops(frame: Frame): string {
  if (frame.shape.dropout === undefined) return "";
  return eachColumn(frame, (j, i) => `    let m${j}_${i} = drops(h${j}, u32(at${i}.x) / 4u);\n`);
}

/** Multiplies the block `name` by the factors of {@link declareColumnDrops}. */
export function dropColumns(frame: Frame, name: string): string {
  if (frame.shape.dropout === undefined) return "";
  return eachColumn(frame, (j, i) => `    ${name}${j}_${i} *= m${j}_${i};\n`);
}

/**
 * The factors of all weights, 0 or what keeps their sum as it is expected to be.
 *
 * Bindings: a0 `draw[3]`, f32: the key and the step; o0 `out[B * H, T, S]`.
 *
 * @param options Sizes and rate
 * @returns The kernel
 */
export function attentionDrops({ batch, time, keys, heads, rate }: DroppedShape): Kernel {
  const fours = Math.ceil(keys / 4);
  return flatKernel({
    name: `attention_drops ${batch}x${time}x${keys}x${heads}`,
    items: batch * heads * time * fours,
    inputs: ["f32"],
    outputs: ["f32"],
    functions: dropsText({ rate, draw: "a0" }),
    flops: 0,
    body: `  let four = i % ${fours}u;
  let query = i / ${fours}u % ${time}u;
  let lane = i / ${fours * time}u;
  let row = (lane / ${heads}u * ${time}u + query) * ${heads}u + lane % ${heads}u;
  let factors = drops(row, four);
  let to = (lane * ${time}u + query) * ${keys}u + 4u * four;
${repeat(4, (k) => `  if (4u * four + ${k}u < ${keys}u) { o0[to + ${k}u] = factors[${k}]; }\n`)}`,
  });
}

/**
 * Computes what {@link attentionDrops} writes, on the CPU.
 *
 * @param options Sizes, rate, the key of `dropoutKey`, and the step
 * @returns f32 [B, H, T, S]
 */
export function attentionDropValues(
  { batch, time, keys, heads, rate, key: [high, low], step }: DroppedShape & {
    readonly key: readonly [number, number];
    readonly step: number;
  },
): Float32Array<ArrayBuffer> {
  const { least, factor } = rule(rate), out = new Float32Array(batch * heads * time * keys);
  const key = [((high << 16) | low) >>> 0, step] as const;
  for (let at = 0; at < out.length; at++) {
    const j = at % keys, i = Math.floor(at / keys) % time, lane = Math.floor(at / keys / time);
    const row = (Math.floor(lane / heads) * time + i) * heads + lane % heads;
    const word = threefry2x32(key, [row, j >> 2])[(j & 2) >> 1];
    if ((j & 1 ? word >>> 16 : word & 0xffff) >= least) out[at] = factor;
  }
  return out;
}
