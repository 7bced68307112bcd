/**
 * Workgroup memory of the staged kernels: 16 lines of each operand, and the loads that bring the next ones through registers.
 *
 * Lines of a sum lie in groups of four with a quad between groups, so that threads of neighbouring groups write into
 * different banks.
 *
 * @module
 */

import { repeat } from "../kernel.ts";
import type { Frame } from "./frame.ts";
import { FOUR, type Rows, SUBGROUP } from "./thread_block.ts";

/** Steps of a sum in one stage. */
export const STAGE_DEPTH = 16;

/** Groups of four lines in a stage. */
export const GROUPS: number = STAGE_DEPTH / FOUR;

/** Declares an array of `lines` lines of `quads` quads. */
export function declareLines(
  { name, lines, quads }: { readonly name: string; readonly lines: number; readonly quads: number },
): string {
  return `struct Group_${name} { row: array<array<vec4f, ${quads}>, ${FOUR}>, pad: vec4f }
var<workgroup> ${name}: array<array<Group_${name}, ${GROUPS}>, ${lines / STAGE_DEPTH}>;\n`;
}

/** Whether half of the threads load own rows and the other half streamed rows, into the same registers. */
function loadsInHalves({ rows, tile, threads }: Frame): boolean {
  return Math.max(rows, tile) * 2 <= threads && threads % (2 * SUBGROUP) === 0;
}

/** Registers of a thread for a stage of own rows. */
export function ownRegisters({ rows, threads }: Frame): number {
  return FOUR * Math.ceil(rows / threads);
}

/** Further registers of a thread for a stage of streamed rows. */
export function streamedRegisters(frame: Frame): number {
  const { tile, threads } = frame;
  return loadsInHalves(frame) ? 0 : Math.ceil(tile * GROUPS / threads);
}

/** Runs `text` in the threads that have an l-th load, of `count` in all; `first` is WGSL for a thread's first load. */
export function withLoad(
  { count, l, threads, first = "lid" }: {
    readonly count: number;
    readonly l: number;
    readonly threads: number;
    readonly first?: string;
  },
  text: string,
): string {
  const id = `    let id = ${first} + ${l * threads}u;\n`;
  return (l + 1) * threads <= count
    ? `    {\n${id}${text}    }\n`
    : `    {\n${id}    if (id < ${count}u) {\n${text}    }\n    }\n`;
}

/** WGSL that loads stage `c` (WGSL) of the tile at `base` (WGSL) into registers, and stores them in workgroup memory. */
export interface StageLoad {
  readonly load: (c: string, base: string) => string;
  readonly store: string;
}

/** The rows of a tile: `number` gives row `i` (WGSL, u32) of the tile at `base` (WGSL, i32). */
export interface TileRows {
  readonly rows: Rows;
  /** WGSL for the number of a row in its buffer. */
  readonly number: (i: string, base: string) => string;
  /** Whether every tile is complete, so that its rows are neighbours in memory. */
  readonly whole: boolean;
}

/** Own rows; rows past the end repeat the last one. */
export function ownTileRows({ rows: height, count }: Frame, rows: Rows): TileRows {
  const whole = count % height === 0;
  return { rows, whole, number: (i) => whole ? `(first + ${i})` : `min(first + ${i}, ${count - 1}u)` };
}

/** Streamed rows; unless every tile is complete, rows past the last visible one repeat it. */
export function streamedTileRows(rows: Rows, whole: boolean): TileRows {
  const number = (i: string, base: string): string =>
    whole ? `(u32(${base}) + ${i})` : `u32(min(${base} + i32(${i}), last))`;
  return { rows, whole, number };
}

/** Rows to store transposed: how many, and the number of their first register. */
export interface TransposedLoad {
  readonly name: string;
  readonly to: number;
  readonly count: number;
  readonly lines: TileRows;
  readonly factor?: string;
}

/** Loads blocks of four rows by four elements of D with `threads` threads. */
function loadBlocks(
  { load: read }: Frame,
  { name, to, count, lines, factor, threads, first }: TransposedLoad & {
    readonly threads: number;
    readonly first: string;
  },
): StageLoad {
  const { rows: { buffer, address, stride }, number, whole } = lines;
  // Eight lanes write at the same time: their four groups are a quad apart, their quads are four apart.
  const place = `      let group = id % ${GROUPS}u;
      let quad = id / 32u * 8u + id / 4u % 2u * 4u + id / 8u % 4u;\n`;
  const all = (text: (at: number) => string): string =>
    repeat(
      Math.ceil(count / threads),
      (l) => withLoad({ count, l, threads, first }, place + text(to + FOUR * l)),
    );
  const times = factor === undefined ? "" : ` * ${factor}`;
  const line = (at: number, c: number): string =>
    `vec4f(${[0, 1, 2, 3].map((r) => `f${at + r}.${"xyzw"[c]}`).join(", ")})${times}`;
  const addressOf = (i: string, base: string, c: string): string =>
    `${address(number(i, base))} + ${c} * ${GROUPS}u + group`;
  const loadRows = (at: number, c: string, base: string): string =>
    whole
      ? `      let at = ${addressOf("quad * 4u", base, c)};\n` +
        repeat(FOUR, (r) => `      f${at + r} = ${read(buffer, `at + ${r * stride}u`)};\n`)
      : repeat(FOUR, (r) => `      f${at + r} = ${read(buffer, addressOf(`quad * 4u + ${r}u`, base, c))};\n`);
  return {
    load: (c, base) => all((at) => loadRows(at, c, base)),
    store: all((at) => repeat(FOUR, (c) => `      ${name}[0][group].row[${c}][quad] = ${line(at, c)};\n`)),
  };
}

/** Loads four elements of D of one row per thread: occupies more threads than {@link loadBlocks}. */
function loadQuads(
  { threads, load }: Frame,
  { name, to, count, lines: { rows: { buffer, address }, number } }: TransposedLoad,
): StageLoad {
  const place = `      let group = id % ${GROUPS}u;\n      let row = id / ${GROUPS}u;\n`;
  const all = (text: (at: number) => string): string =>
    repeat(
      Math.ceil(count * GROUPS / threads),
      (l) => withLoad({ count: count * GROUPS, l, threads }, place + text(to + l)),
    );
  return {
    load: (c, base) =>
      all((at) =>
        `      f${at} = ${load(buffer, `${address(number("row", base))} + ${c} * ${GROUPS}u + group`)};\n`
      ),
    store: all((at) =>
      repeat(
        FOUR,
        (c) => `      ${name}[0][group].row[${c}][row / ${FOUR}u][row % ${FOUR}u] = f${at}.${"xyzw"[c]};\n`,
      )
    ),
  };
}

/** Loads a stage of own rows and of streamed rows. */
export function loadOperands(frame: Frame, own: TransposedLoad, other: TransposedLoad): StageLoad {
  const { threads } = frame;
  if (loadsInHalves(frame)) {
    const half = threads / 2;
    const [a, b] = [own, { ...other, to: 0 }].map((side) =>
      loadBlocks(frame, { ...side, threads: half, first: `lid % ${half}u` })
    );
    const either = (x: string, y: string): string =>
      `    if (lid < ${half}u) {\n${x}    } else {\n${y}    }\n`;
    return { load: (c, base) => either(a.load(c, base), b.load(c, base)), store: either(a.store, b.store) };
  }
  const a = loadBlocks(frame, { ...own, threads, first: "lid" });
  const b = loadQuads(frame, other);
  return { load: (c, base) => a.load(c, base) + b.load(c, base), store: a.store + b.store };
}
