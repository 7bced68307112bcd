/**
 * Chunks: eight neighbouring elements of a row of an operand, loaded as they are stored, and turned into f16 (16 bytes) when
 * they are put into workgroup memory.
 *
 * @module
 */

import { blockedLoad, blockedQuad, isBlocked, RAW } from "../blocks.ts";
import { halfAt, packedQuad } from "../packed.ts";
import type { MatrixWords } from "../matrix_words.ts";
import type { MatmulOperand } from "./frame.ts";

/**
 * Numbers of an operand that may be beyond the range of f16 (65504) are multiplied by this before they are rounded, and the
 * product by its inverse: they may then be as large as 1.6e7, and lose 2^-17 at most, as much as f16 itself loses of 1/64.
 */
const SHRINK = 2 ** -8;

/** WGSL by which a product of these operands is multiplied. */
export function growth(sides: readonly MatmulOperand[]): string {
  const large = sides.filter((side) => side.large).length;
  return large === 0 ? "" : ` * ${SHRINK ** -large}.0f`;
}

/** WGSL that rounds eight f32 of an operand to f16. */
function rounded({ large }: MatmulOperand, quads: readonly string[]): string {
  return `f16_chunk(${quads.map((quad) => large ? `${quad} * ${SHRINK}f` : quad).join(", ")})`;
}

/** Elements of a chunk. */
export const CHUNK = 8;

/** Where a chunk is: a buffer, and WGSL for its row and its first column as they are stored. */
export interface ChunkPlace {
  readonly buffer: string;
  readonly row: string;
  readonly column: string;
}

/** How chunks of an operand are read. */
export interface Chunks {
  /** The operand, with the WGSL type that its buffers are arrays of. */
  readonly side: MatmulOperand;
  /** The WGSL types of the registers that hold a chunk until it is used: nothing is computed from them before. */
  readonly registers: readonly string[];
  /** WGSL for each register. */
  load(place: ChunkPlace): readonly string[];
  /** WGSL for eight f16 as `vec4<u32>`. */
  halves(registers: readonly string[], column: string): string;
  /** WGSL for the same eight numbers as two `vec4<f32>`. */
  quads(registers: readonly string[], column: string): readonly [string, string];
  /** Functions that these texts call. */
  readonly functions: string;
}

/** Rounds eight numbers to f16; too large ones become infinite (see `f16.ts`). */
const round = ({ halfWords }: Pick<MatrixWords, "halfWords">): string =>
  `fn f16_quad(x: vec4<f32>) -> vec2<u32> {
let y = select(x, x * 3.0e38f, abs(x) >= vec4<f32>(65520.0f));
return ${halfWords("y")};
}
fn f16_chunk(x: vec4<f32>, y: vec4<f32>) -> vec4<u32> { return vec4<u32>(f16_quad(x), f16_quad(y)); }
`;

/** The function that both operands may call. */
export function chunkFunctions(
  chunks: readonly Chunks[],
  words: Pick<MatrixWords, "halfWords">,
): string {
  const texts = chunks.map(({ functions }) => functions).join("");
  return (chunks.every(isPlain) ? "" : round(words)) + texts;
}

/** Whether chunks are f16 as they are loaded. */
function isPlain({ side: { stored }, registers }: Chunks): boolean {
  return registers.length === 1 && (stored === "f16" || stored === "half");
}

/**
 * Tells how chunks of an operand are read: in loads of 16 bytes where rows begin at multiples of eight elements.
 *
 * @param side The operand
 * @param batch How many of it lie one after the other
 * @returns How to read chunks
 */
export function chunksOf(side: MatmulOperand, batch: number): Chunks {
  const { stored, stride } = side;
  if (isBlocked(stored)) return blockedChunks(side, stored);
  if (stride % CHUNK !== 0) return elementChunks(side, batch);
  if (stored === "f32") {
    return {
      side: { ...side, type: "vec4<f32>", wide: true },
      registers: ["vec4<f32>", "vec4<f32>"],
      load: ({ buffer, row, column }) =>
        [0, 1].map((half) => `${buffer}[${row} * ${stride / 4}u + ${column} / 4u + ${half}u]`),
      halves: (quads) => rounded(side, quads),
      quads: asTheyAre,
      functions: "",
    };
  }
  const quads = ([words]: readonly string[]): readonly [string, string] => [
    packedQuad(`${words}.xy`, stored),
    packedQuad(`${words}.zw`, stored),
  ];
  return {
    side: { ...side, type: "vec4<u32>", wide: true },
    registers: ["vec4<u32>"],
    load: ({ buffer, row, column }) => [`${buffer}[${row} * ${stride / 8}u + ${column} / 8u]`],
    halves: (words) => stored === "bf16" ? `f16_chunk(${quads(words).join(", ")})` : words[0],
    quads,
    functions: "",
  };
}

/** Registers that hold two quads of f32. */
function asTheyAre([first, second]: readonly string[]): readonly [string, string] {
  return [first, second];
}

/** Rows of blocks are padded: a chunk that begins within a row can be loaded. */
function blockedChunks(side: MatmulOperand, stored: "int8" | "nf4"): Chunks {
  // The words of eight codes of nf4 are those of the first four.
  const loads = stored === "int8" ? [0, 4] : [0];
  const quads = ([first, second = first]: readonly string[], column: string): readonly [string, string] => [
    blockedQuad(stored, first, `(${column}) + 0u`),
    blockedQuad(stored, second, `(${column}) + 4u`),
  ];
  return {
    side,
    registers: loads.map(() => RAW[stored]),
    load: ({ buffer, row, column }) =>
      loads.map((at) =>
        blockedLoad(stored, { name: buffer, width: side.stride, row, column: `(${column} + ${at}u)` })
      ),
    halves: (registers, column) => `f16_chunk(${quads(registers, column).join(", ")})`,
    quads,
    functions: "",
  };
}

/** Element by element: zeros past the end of a row. */
function elementChunks(side: MatmulOperand, batch: number): Chunks {
  const { name, buffers, stored, size, k, kContiguous, stride } = side;
  const [rows, columns] = kContiguous ? [size, k] : [k, size], last = batch * rows * stride - 1;
  const words = stored === "bf16" || stored === "half";
  if (buffers.length > 1 && words) {
    throw new TypeError(
      `Cannot load ${stored} of a group as rows of ${stride} elements: they begin within a word`,
    );
  }
  const value = (buffer: string): string =>
    words ? halfAt(name, "i") : stored === "f32" ? `${buffer}[i]` : `f32(${buffer}[i])`;
  return {
    side: { ...side, wide: false },
    registers: ["vec4<f32>", "vec4<f32>"],
    load: ({ buffer, row, column }) =>
      [0, 4].map((at) => `${buffer}_quad(${row} * ${stride}u, (${column}) + ${at}u)`),
    halves: (quads) => rounded(side, quads),
    quads: asTheyAre,
    functions: buffers.map((buffer) =>
      `fn ${buffer}_one(start: u32, column: u32) -> f32 {
let i = min(start + column, ${last}u);
return select(0.0f, ${value(buffer)}, column < ${columns}u);
}
fn ${buffer}_quad(start: u32, column: u32) -> vec4<f32> {
return vec4<f32>(${[0, 1, 2, 3].map((c) => `${buffer}_one(start, column + ${c}u)`).join(", ")});
}
`
    ).join(""),
  };
}
