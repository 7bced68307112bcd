/**
 * Panels: how the tiles of a product lie in workgroup memory for matrix units, and how they are filled.
 *
 * A panel is a part of a tile that one subgroup reads, `width` along m or n and `bk` deep, in the order in which the operand
 * lies in memory: nothing is transposed. All panels are elements of one array of arrays, so that a place within a panel is a
 * constant, which needs no check when the shader runs.
 *
 * @module
 */

import { repeat } from "../kernel.ts";
import { type MatrixMemory, matrixWords } from "../matrix_words.ts";
import { CHUNK, type Chunks } from "./chunks.ts";
import { selectBuffer } from "./frame.ts";
import { pairOf } from "./pairs.ts";
import type { MatrixTile } from "./types.ts";

/** Elements behind each row of a panel, so that neighbouring rows begin in different banks. */
const PAD = 8;
/** The same behind rows of sums, in elements of the array: four f32 each. */
const SUMS_PAD = 2;

/** The array of panels. */
export interface PanelLayout {
  /** Elements of a panel along m or n. */
  readonly width: number;
  /** Panels of A and of B. */
  readonly panelsA: number;
  readonly panelsB: number;
  /** Workgroup memory. */
  readonly memory: MatrixMemory;
  /** Elements of the array from one row of sums of a subgroup to the next. */
  readonly sumsStride: number;
}

/** Elements of the array from one row of a panel to the next. */
function strideOf({ bk }: Pick<MatrixTile, "bk">, { width, kContiguous }: PanelShape): number {
  return ((kContiguous ? bk : width) + PAD) / CHUNK;
}

interface PanelShape {
  readonly width: number;
  readonly kContiguous: boolean;
}

/**
 * Lays out the panels of a tile. One for each subgroup also serves the sums of a row of its matrices.
 *
 * @param tile The tile
 * @param layouts Whether A and B are transposed; whether panels of first parts of pairs are followed by those of second parts
 * @returns The layout
 */
export function panelLayout(
  tile: MatrixTile,
  { transposeA = false, transposeB = false, paired = false }: {
    readonly transposeA?: boolean;
    readonly transposeB?: boolean;
    readonly paired?: boolean;
  },
): PanelLayout {
  const { bm, bn, bk, wm, wn, um } = tile, width = Math.min(wm, wn);
  const sumsStride = wn / 4 + SUMS_PAD;
  const lengths = [!transposeA, transposeB].map((kContiguous) =>
    strideOf(tile, { width, kContiguous }) * (kContiguous ? width : bk)
  );
  const panelsA = bm / width, panelsB = bn / width, subgroups = (bm / wm) * (bn / wn);
  return {
    width,
    panelsA,
    panelsB,
    memory: {
      operands: { count: (paired ? 2 : 1) * (panelsA + panelsB), length: Math.max(...lengths) },
      sums: { count: subgroups, length: um * sumsStride },
    },
    sumsStride,
  };
}

/**
 * Bytes of workgroup memory that a tile takes.
 *
 * @param tile The tile
 * @param layouts Whether A and B are transposed, and numbers are pairs
 * @returns Bytes
 */
export function panelBytes(tile: MatrixTile, layouts: Parameters<typeof panelLayout>[1]): number {
  const { operands, sums } = panelLayout(tile, layouts).memory;
  const shifts = layouts.paired === true ? 4 * (tile.bm + tile.bn) : 0;
  if (tile.dialect === "naga") {
    return 16 * (operands.count * operands.length + sums.count * sums.length) + shifts;
  }
  return 16 * Math.max(operands.count, sums.count) * Math.max(operands.length, sums.length) + shifts;
}

/**
 * Where a matrix lies: its panel, counted from the first one of the subgroup, and its place within it.
 *
 * @param tile The tile
 * @param options Its first element along m or n and along k, and whether neighbours along k are neighbours in memory
 * @returns The panel, the offset and the stride, in elements of the array
 */
export function matrixPlace(
  tile: MatrixTile,
  { width, kContiguous, along, depth }: PanelShape & { readonly along: number; readonly depth: number },
): { readonly panel: number; readonly offset: number; readonly stride: number } {
  const stride = strideOf(tile, { width, kContiguous }), inside = along % width;
  const offset = kContiguous ? inside * stride + depth / CHUNK : depth * stride + inside / CHUNK;
  return { panel: Math.floor(along / width), offset, stride };
}

/** The tile of an operand. */
export interface OperandTile {
  readonly chunks: Chunks;
  /** WGSL for its first row or column of the product. */
  readonly origin: string;
  /** How many it has. */
  readonly size: number;
  /** Its first panel. */
  readonly panel: number;
  /** For pairs: how many panels later the second parts are, and WGSL for the number of its first shift. */
  readonly pairs?: { readonly apart: number; readonly shifts: number };
}

/** WGSL that fills panels: first registers, of which there is a set for each tile that is on its way, later the panels from those. */
export interface PanelFill {
  /** Declares registers. */
  readonly declare: string;
  /** Loads a set of them; `at` is WGSL for the position along k. */
  load(set: number, at: string): string;
  /** Stores a set into the panels. */
  store(set: number): string;
}

/**
 * Writes how the tile of an operand is filled: chunks of eight elements, several a thread.
 *
 * @param operand The operand
 * @param options The tile, its layout, threads, and WGSL for the position along k where registers are stored
 * @returns WGSL; zeros stand for what lies outside the operand
 */
export function fillPanels(
  { chunks, origin, size, panel, pairs }: OperandTile,
  { tile, width, threads, storedAt }: {
    readonly tile: MatrixTile;
    readonly width: number;
    readonly threads: number;
    readonly storedAt: string;
  },
): PanelFill {
  const { side: { name, buffers, k, kContiguous, ...side }, registers } = chunks, { bk } = tile;
  const across = (kContiguous ? bk : size) / CHUNK, count = across * (kContiguous ? size : bk);
  const rounds = Math.ceil(count / threads), stride = strideOf(tile, { width, kContiguous });
  const fits = { o: side.size % size === 0, k: k % bk === 0 }, words = matrixWords(tile.dialect);
  // Threads that load whole rows of chunks keep their columns from round to round.
  const kept = !kContiguous && threads % across === 0;
  const factorsOf = (l: number): readonly [string, string] =>
    kContiguous
      ? [`${name}f${l}`, `${name}f${l}`]
      : [`${name}f${kept ? 0 : l}_0`, `${name}f${kept ? 0 : l}_4`];
  const factors = (l: number): string => {
    if (pairs === undefined || (kept && l > 0)) return "";
    if (kContiguous) {
      return `let ${name}f${l} = power_of_two(shifts[${pairs.shifts}u + ${name}r${l} % ${size}u]);\n`;
    }
    return [0, 4].map((at) => {
      const shift = (i: number): string => `shifts[${pairs.shifts}u + ${name}q${l} * 8u + ${at + i}u]`;
      return `let ${name}f${l}_${at} = powers_of_two(vec4<i32>(${[0, 1, 2, 3].map(shift).join(", ")}));\n`;
    }).join("");
  };
  const held = (l: number, set: number): string[] => registers.map((_, i) => `${name}p${set}_${l}_${i}`);
  const inRow = (l: number): string => `${name}r${l} < ${kContiguous ? size : bk}u`;
  const isPart = (l: number): boolean => (l + 1) * threads > count;
  const place = (l: number, k0: string): { row: string; column: string } => {
    const [row, chunk] = [`${name}r${l}`, `${name}q${l} * 8u`];
    return kContiguous
      ? { row: `(${origin} + ${row})`, column: `(${k0} + ${chunk})` }
      : { row: `(${k0} + ${row})`, column: `(${origin} + ${chunk})` };
  };
  const load = (l: number, set: number, at: string): string => {
    const from = place(l, at),
      [alongK, other] = kContiguous ? [from.column, from.row] : [from.row, from.column];
    const guards = [
      ...(isPart(l) ? [inRow(l)] : []),
      ...(fits.o ? [] : [`${other} < ${side.size}u`]),
      ...(fits.k ? [] : [`${alongK} < ${k}u`]),
    ];
    const text = selectBuffer(buffers, (buffer) => {
      const texts = chunks.load({ buffer, row: `(z${name} + ${from.row})`, column: from.column });
      return held(l, set).map((register, i) => `${register} = ${texts[i]};\n`).join("");
    });
    const zeros = held(l, set).map((register, i) => `${register} = ${registers[i]}();\n`).join("");
    return guards.length === 0 ? text : `if (${guards.join(" && ")}) {\n${text}} else {\n${zeros}}\n`;
  };
  const store = (l: number, set: number): string => {
    const [row, chunk] = [`${name}r${l}`, `${name}q${l}`], { column } = place(l, storedAt);
    const inside = kContiguous
      ? { panel: `${row} / ${width}u`, at: `${row} % ${width}u * ${stride}u + ${chunk}` }
      : { panel: `${chunk} / ${width / CHUNK}u`, at: `${row} * ${stride}u + ${chunk} % ${width / CHUNK}u` };
    const put = (value: string, panel: number): string =>
      `${words.put(value, { panel: `${panel}u + ${inside.panel}`, at: inside.at })}\n`;
    const text = pairs === undefined
      ? put(chunks.halves(held(l, set), column), panel)
      : `{\nlet pair = ${pairOf(chunks.quads(held(l, set), column), factorsOf(l))};\n${
        put("pair.first", panel)
      }${put("pair.second", panel + pairs.apart)}}\n`;
    return isPart(l) ? `if (${inRow(l)}) {\n${text}}\n` : text;
  };
  const declared = (l: number): string =>
    repeat(tile.ahead, (set) => held(l, set).map((name, i) => `var ${name} = ${registers[i]}();\n`).join(""));
  return {
    declare: repeat(rounds, (l) =>
      `let ${name}r${l} = (lid + ${l * threads}u) / ${across}u;
let ${name}q${l} = (lid + ${l * threads}u) % ${across}u;
${factors(l)}${declared(l)}`),
    load: (set, at) => repeat(rounds, (l) => load(l, set, at)),
    store: (set) => repeat(rounds, (l) => store(l, set)),
  };
}
