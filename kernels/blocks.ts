/**
 * Weights of few bits: each row of a matrix is blocks of codes, and every block has a scale.
 *
 * | storage | code | block | scale |
 * | --- | --- | --- | --- |
 * | `int8` | whole number from -127 to 127 | 32 | f16, as in Q8_0 of GGUF |
 * | `nf4` | one of the 16 values of NF4 | 64 | 8 bits of 256 scales that share an f32, plus an f32 (QLoRA) |
 *
 * A row lies in words of 32 bits: its codes, the scales of its blocks, and for `nf4` what those are scaled by. So a launch
 * can bind some rows. Codes past the end of a row stand for zero: quads of four codes can be loaded to the last one.
 *
 * @module
 */

import { f32 } from "./kernel.ts";

/** Storage types that consist of blocks. */
export type Blocked = "int8" | "nf4";

/** Elements of a block. */
export const BLOCK: Readonly<Record<Blocked, number>> = { int8: 32, nf4: 64 };

/** Scales of `nf4` that share a scale. */
export const SHARED_SCALES = 256;

/** Rows begin at a multiple of so many words. */
const ALIGNED = 4;

/** Where the parts of a row begin, in words. */
export interface RowLayout {
  /** Blocks of a row. */
  readonly blocks: number;
  /** The first word of scales. */
  readonly scales: number;
  /** `nf4`: the word of the offset of scales; behind it stand the scales of scales. */
  readonly offset: number;
  /** `nf4`: how many scales of scales a row has. */
  readonly shared: number;
  /** Words from one row to the next. */
  readonly words: number;
}

/**
 * Lays out a row.
 *
 * @param stored Its storage
 * @param width Elements of the row
 * @returns The layout
 */
export function rowLayout(stored: Blocked, width: number): RowLayout {
  const blocks = Math.ceil(width / BLOCK[stored]), scales = 8 * blocks;
  if (stored === "int8") {
    const end = scales + Math.ceil(blocks / 2);
    return { blocks, scales, offset: end, shared: 0, words: aligned(end) };
  }
  const offset = scales + Math.ceil(blocks / 4);
  // Blocks are counted through all rows: a row may begin amid those that share a scale.
  const shared = isWhole(blocks) ? 1 : Math.ceil((blocks - 1) / SHARED_SCALES) + 1;
  return { blocks, scales, offset, shared, words: aligned(offset + 1 + shared) };
}

function aligned(words: number): number {
  return Math.ceil(words / ALIGNED) * ALIGNED;
}

/** Whether the scales of a row always share one scale. */
function isWhole(blocks: number): boolean {
  return SHARED_SCALES % blocks === 0;
}

/** WGSL for which scale of scales a block has, of those of its row. */
export function sharedScale(
  blocks: number,
  { row, block }: { readonly row: string; readonly block: string },
): string {
  return isWhole(blocks) ? "0u" : `(${row} * ${blocks}u % ${SHARED_SCALES}u + ${block}) / ${SHARED_SCALES}u`;
}

/** The values of NF4. Source: Dettmers et al., "QLoRA", arXiv 2305.14314, appendix E. */
export const NF4: readonly number[] = [
  -1,
  -0.6961928009986877,
  -0.5250730514526367,
  -0.39491748809814453,
  -0.28444138169288635,
  -0.18477343022823334,
  -0.09105003625154495,
  0,
  0.07958029955625534,
  0.16093020141124725,
  0.24611230194568634,
  0.33791524171829224,
  0.44070982933044434,
  0.5626170039176941,
  0.7229568362236023,
  1,
];

/** The code of zero. */
export const ZERO_CODE: Readonly<Record<Blocked, number>> = { int8: 0, nf4: NF4.indexOf(0) };

/** Values of one bit less for each bit of an index. */
function tree(values: readonly string[], bit = 0): string {
  if (values.length === 1) return values[0];
  const halves = Array.from(
    { length: values.length / 2 },
    (_, i) => `select(${values[2 * i]}, ${values[2 * i + 1]}, b${bit})`,
  );
  return tree(halves, bit + 1);
}

const bits = (code: string, count: number): string =>
  Array.from({ length: count }, (_, i) => `let b${i} = (${code} & ${1 << i}u) != 0u;`).join(" ");

/** A code of a scale: sign, a power of ten, and a place between the tenth of it and it. See `core/data/nf4.ts`. */
const FUNCTIONS: Readonly<Record<Blocked, string>> = {
  int8: `fn int8_codes(word: u32) -> vec4<f32> {
return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}
fn int8_quad(raw: vec2<u32>, column: u32) -> vec4<f32> {
let scales = unpack2x16float(raw.y);
return int8_codes(raw.x) * select(scales.x, scales.y, (column & 32u) != 0u);
}
`,
  nf4: `fn nf4_value(code: u32) -> f32 {
${bits("code", 4)}
return ${tree(NF4.map(f32))};
}
fn nf4_scale(code: u32) -> f32 {
let size = u32(abs(i32(code) - 127));
let power = firstLeadingBit(max(size, 1u)); ${bits("power", 3)}
let ten = ${tree([-6, -5, -4, -3, -2, -1, 0, 0].map((power) => f32(10 ** power)))};
let place = (f32(size - (1u << power)) + 0.5f) / f32(1u << power);
let value = select(ten * fma(place, 0.9f, 0.1f), 1.0f, size == 128u);
return select(select(value, -value, code < 127u), 0.0f, size == 0u);
}
fn nf4_codes(codes: u32) -> vec4<f32> {
return vec4<f32>(nf4_value(codes), nf4_value(codes >> 4u), nf4_value(codes >> 8u), nf4_value(codes >> 12u));
}
fn nf4_quad(raw: vec4<u32>, column: u32) -> vec4<f32> {
let scale = fma(nf4_scale((raw.y >> (column / 64u % 4u * 8u)) & 255u), bitcast<f32>(raw.z), bitcast<f32>(raw.w));
return nf4_codes(raw.x >> (column % 8u * 4u)) * scale;
}
`,
};

/** A quad of a row, as WGSL. */
export interface QuadPlace {
  /** The binding, an `array<u32>`. */
  readonly name: string;
  /** Index of the row in the binding. */
  readonly row: string;
  /** Elements of a row. */
  readonly width: number;
  /** Index of the first element, a multiple of four. */
  readonly column: string;
}

/** The WGSL type of what {@link blockedLoad} loads. */
export const RAW: Readonly<Record<Blocked, string>> = { int8: "vec2<u32>", nf4: "vec4<u32>" };

/** Declares the functions that {@link blockedQuad} calls. */
export function blockedFunctions(stored: Blocked): string {
  return FUNCTIONS[stored];
}

/** WGSL that loads the words of a quad: nothing is computed from them, so that loads can run ahead. */
export function blockedLoad(stored: Blocked, { name, row, width, column }: QuadPlace): string {
  const { scales, offset, blocks, words } = rowLayout(stored, width);
  const at = (place: string): string => `${name}[${row} * ${words}u + ${place}]`;
  if (stored === "int8") return `${RAW.int8}(${at(`${column} / 4u`)}, ${at(`${scales}u + ${column} / 64u`)})`;
  const shared = sharedScale(blocks, { row, block: `${column} / 64u` });
  return `${RAW.nf4}(${at(`${column} / 8u`)}, ${at(`${scales}u + ${column} / 256u`)}, ${
    at(`${offset + 1}u + ${shared}`)
  }, ${at(`${offset}u`)})`;
}

/** WGSL that widens what {@link blockedLoad} loaded to `vec4<f32>`. */
export function blockedQuad(stored: Blocked, raw: string, column: string): string {
  return `${stored}_quad(${raw}, ${column})`;
}

/** Declares the function, called by {@link blockedAt}, that reads one element of a binding. */
export function blockedReader(stored: Blocked, { name, width }: Pick<QuadPlace, "name" | "width">): string {
  const load = blockedLoad(stored, { name, width, row: "row", column: "quad" });
  return `fn ${name}_at(row: u32, column: u32) -> f32 {
let quad = column & 0xfffffffcu;
return ${blockedQuad(stored, load, "quad")}[column % 4u];
}
`;
}

/** Reads one element. */
export function blockedAt(name: string, row: string, column: string): string {
  return `${name}_at(${row}, ${column})`;
}

/** Whether a storage type consists of blocks. */
export function isBlocked(stored: string): stored is Blocked {
  return stored === "int8" || stored === "nf4";
}
