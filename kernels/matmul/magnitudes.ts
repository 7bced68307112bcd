/**
 * The largest magnitudes of the rows or columns of an operand, which tell by what they are scaled before numbers become pairs.
 *
 * @module
 */

import { f16Header } from "../f16.ts";
import { GROUP_BUILTINS, type Kernel } from "../kernel.ts";
import { CHUNK, chunksOf } from "./chunks.ts";
import { loadType, type MatmulOperand, operandsOf, readerOf } from "./frame.ts";
import type { Matmul } from "./types.ts";

/** Threads of a workgroup. */
const THREADS = 256;
/** Threads that share a row of neighbours along k. */
const ALONG = 32;
/** Chunks of neighbours along m or n that a workgroup reads side by side. */
const ACROSS = 16;
/** Most parts of a sum, and least depth of one, where neighbours lie along m or n. */
const PARTS = 16, DEPTH = 64;

/** A product, as far as its operands go. */
type Operands = Omit<Matmul, "variant" | "epilogue" | "limit">;

/** How the magnitudes of an operand are stored: u32 `[parts, batch, size]`, of which the largest along parts counts. */
export interface Magnitudes {
  /** Parts that the sums of the product fall into. */
  readonly parts: number;
  /** Rows or columns of the operand, all of the batch. */
  readonly rows: number;
}

/**
 * Tells how the magnitudes of an operand are stored.
 *
 * @param product The product
 * @param name Which operand
 * @returns Parts and rows
 */
export function magnitudesOf(product: Operands, name: "a" | "b"): Magnitudes {
  const { kContiguous, size, k } = sideOf(product, name);
  return { parts: kContiguous ? 1 : partsOf(k), rows: product.batch * size };
}

const partsOf = (k: number): number => Math.max(1, Math.min(PARTS, Math.ceil(k / DEPTH)));

function sideOf(product: Operands, name: "a" | "b"): MatmulOperand {
  return operandsOf({
    ...product,
    variant: { kind: "direct", tm: 1, tn: 1, subgroups: false },
  })[name === "a" ? 0 : 1];
}

/**
 * The kernel that finds the largest magnitudes. Bindings: the operand, the magnitudes as the bits of f32.
 *
 * @param product The product
 * @param name Which operand
 * @returns The kernel
 */
export function magnitudes(product: Operands, name: "a" | "b"): Kernel {
  const { batch } = product, chunks = chunksOf(sideOf(product, name), batch), { side } = chunks;
  const { size, k, kContiguous } = side, { parts, rows } = magnitudesOf(product, name);
  const bindings = [
    `var<storage, read> ${name}: array<${loadType(side)}>;`,
    "var<storage, read_write> largest: array<u32>;",
  ];
  const registers = (row: string, column: string): string =>
    chunks.load({ buffer: name, row, column }).map((text, i) => `let p${i} = ${text};\n`).join("");
  const held = chunks.registers.map((_, i) => `p${i}`);
  const bits = (column: string): readonly string[] =>
    chunks.quads(held, column).map((quad) => `bitcast<vec4<u32>>(${quad}) & vec4<u32>(0x7fffffffu)`);
  const body = kContiguous ? alongText() : acrossText();
  /** Each row has some threads. */
  function alongText(): string {
    const each = THREADS / ALONG, [x, y] = bits("column");
    return `let local = lid / ${ALONG}u; let row = wid.x * ${each}u + local; let z = wid.y;
if (row < ${size}u) {
var most = vec4<u32>();
for (var column = lid % ${ALONG}u * ${CHUNK}u; column < ${k}u; column += ${ALONG * CHUNK}u) {
${registers(`(z * ${size}u + row)`, "column")}most = max(most, max(${x}, ${y}));
}
atomicMax(&found[local], max(max(most.x, most.y), max(most.z, most.w)));
}
workgroupBarrier();
let own = wid.x * ${each}u + lid;
if (lid < ${each}u && own < ${size}u) { largest[z * ${size}u + own] = atomicLoad(&found[lid]); }
`;
  }
  /** Each chunk of columns has some threads, and each of them some rows. */
  function acrossText(): string {
    const lanes = THREADS / ACROSS, depth = Math.ceil(k / parts), [x, y] = bits("column");
    const put = (vector: string, from: number): string =>
      [0, 1, 2, 3].map((i) => `atomicMax(&found[place + ${from + i}u], ${vector}.${"xyzw"[i]});\n`).join("");
    return `let part = wid.z; let z = wid.y; let first = wid.x * ${ACROSS * CHUNK}u;
let place = lid % ${ACROSS}u * ${CHUNK}u; let column = first + place;
if (column < ${size}u) {
var low = vec4<u32>(); var high = vec4<u32>();
let end = min((part + 1u) * ${depth}u, ${k}u);
for (var row = part * ${depth}u + lid / ${ACROSS}u; row < end; row += ${lanes}u) {
${registers(`(z * ${k}u + row)`, "column")}low = max(low, ${x});
high = max(high, ${y});
}
${put("low", 0)}${put("high", 4)}}
workgroupBarrier();
let own = first + lid;
if (lid < ${ACROSS * CHUNK}u && own < ${size}u) {
largest[part * ${rows}u + z * ${size}u + own] = atomicLoad(&found[lid]);
}
`;
  }
  return {
    name: `magnitudes ${batch === 1 ? "" : `${batch}x`}${size}x${k} ${
      kContiguous ? "along" : "across"
    } ${side.stored}`,
    code: f16Header(bindings) + bindings.map((text, i) => `@group(0) @binding(${i}) ${text}\n`).join("") +
      `${chunks.functions}${readerOf(side)}
var<workgroup> found: array<atomic<u32>, ${ACROSS * CHUNK}>;
@compute @workgroup_size(${THREADS}) fn main(${GROUP_BUILTINS}) {
${body}}
`,
    grid: kContiguous
      ? [Math.ceil(size / (THREADS / ALONG)), batch, 1]
      : [Math.ceil(size / (ACROSS * CHUNK)), batch, parts],
    flops: batch * size * k,
  };
}
