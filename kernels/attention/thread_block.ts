/**
 * The block of scores and sums that each thread of a GPU attention kernel keeps in registers, shared by the tiled and the
 * staged kernels.
 *
 * A workgroup owns rows (queries, or keys in the gradient by keys and values) and streams the rows of the other side past
 * them, one tile at a time. Thread (tx, ty) owns quads of own rows from `ownQuad` on, and the quads `tx + j * split` of
 * streamed rows or of D. Both products are sums of outer products: in each step a thread multiplies all its quads of one
 * side with all of the other.
 *
 * @module
 */

import { repeat } from "../kernel.ts";
import { type Frame, keyAddress, queryRow } from "./frame.ts";

/** Rows and elements of a block that a thread loads, and lines of a group. */
export const FOUR = 4;

/** Threads of a subgroup that the layout assumes. */
export const SUBGROUP = 32;

/** Waits for all threads of the workgroup. */
export const BARRIER = "    workgroupBarrier();\n";

/** The threads along one side of a block. */
export interface Side {
  /** `x` for streamed rows, `y` for own rows: thread `tx` or `ty`. */
  readonly name: "x" | "y";
  readonly span: number;
  /** Quads of a thread. */
  readonly quads: number;
}

/** How the threads of a workgroup divide a tile. */
export interface Blocks {
  readonly x: Side;
  readonly y: Side;
  /** Quads of D that a thread sums. */
  readonly dimQuads: number;
  /** Length of the arrays that a dynamic index reads: the smaller span. */
  readonly unit: number;
  /** Threads of a subgroup of 32 along own rows. */
  readonly high: number;
  /** Whether a subgroup skips the products of tiles that none of its rows sees. */
  readonly skips: boolean;
}

/** A group of lines: its number, or WGSL for it in a loop. */
export type Group = number | string;

/**
 * Derives the division of a tile from a frame.
 *
 * @param frame The frame
 * @returns The blocks
 */
export function blocksOf({ rows, each, tile, split, loads, causal, shape }: Frame): Blocks {
  const down = rows / each, high = Math.min(SUBGROUP / split, down);
  return {
    x: { name: "x", span: split, quads: tile / FOUR / split },
    y: { name: "y", span: down, quads: each / FOUR },
    dimQuads: loads / split,
    unit: Math.min(split, down),
    high,
    skips: (causal || shape.ranges === true) && high < down,
  };
}

/** A buffer with rows of D elements, and WGSL for the first load of a row given its index. */
export interface Rows {
  readonly buffer: string;
  readonly address: (row: string) => string;
  /** Loads from one row to the next. */
  readonly stride: number;
}

/** Rows of a buffer in the layout of the keys. */
export function keyRows(frame: Frame, buffer: string): Rows {
  return { buffer, address: (j) => keyAddress(frame, j), stride: frame.shape.kvHeads * frame.loads };
}

/** Rows of a buffer in the layout of the queries. */
export function queryRows(frame: Frame, buffer: string): Rows {
  const { loads, shape } = frame;
  const address = (i: string): string => `${queryRow(frame, { i, count: shape.time })} * ${loads}u`;
  return { buffer, address, stride: shape.heads * loads };
}

/** Declares `last`, the last streamed row to read. */
export const LAST_ROW = "  let last = max(hi - 1, 0);\n";

/** Loops over the tiles of streamed rows. */
export function eachTile({ tile }: Frame, body: string): string {
  return `  for (var base = lo; base < hi; base += ${tile}) {\n${body}  }\n`;
}

/** Writes the steps of a sum over groups of four lines: four groups are unrolled, and a loop repeats them. */
export function sumSteps(
  frame: Frame,
  { groups, step }: { readonly groups: number; readonly step: (group: Group, c: number) => string },
): string {
  const sixteen = (group: (i: number) => Group): string =>
    repeat(FOUR, (i) => repeat(FOUR, (c) => `      {\n${step(group(i), c)}      }\n`));
  const text = groups === FOUR
    ? sixteen((i) => i)
    : `    for (var g = 0u; g < ${groups}u; g += ${FOUR}u) {\n${sixteen((i) => `g + ${i}u`)}    }\n`;
  return blocksOf(frame).skips ? `    if (live) {\n${text}    }\n` : text;
}

/** Declares a block `name{j}_{i}` of zeros: column j of the i-th quad of own rows. */
export function declareScores(frame: Frame, name: string): string {
  return eachColumn(frame, (j, i) => `    var ${name}${j}_${i} = vec4f();\n`);
}

/** Adds the products of quads `p{i}` of own rows with those `q{j}` of streamed rows to the block `name`. */
export function addScores(frame: Frame, name: string): string {
  return eachColumn(frame, (j, i) => {
    const sum = `${name}${j}_${i}`;
    return `      ${sum} = fma(p${i}, vec4f(q${j >> 2}.${"xyzw"[j & 3]}), ${sum});\n`;
  });
}

/** Writes text for every streamed row (column) of a thread and every quad of its own rows. */
export function eachColumn(frame: Frame, text: (j: number, i: number) => string): string {
  const { x, y } = blocksOf(frame);
  return repeat(4 * x.quads, (j) => repeat(y.quads, (i) => text(j, i)));
}

/** WGSL (i32) for the streamed row in column j of a thread. */
export function columnAt({ split }: Frame, j: number): string {
  return `base + 4 * i32(tx) + ${4 * split * (j >> 2) + (j & 3)}`;
}

/** Declares sums `name{m}_{w}`: the w-th quad of D of own row m. */
export function declareSums(frame: Frame, name: string): string {
  return eachSum(frame, (m, w) => `  var ${name}${m}_${w} = vec4f();\n`);
}

/** Writes text for every own row of a thread and every quad of D. */
export function eachSum(frame: Frame, text: (m: number, w: number) => string): string {
  return repeat(frame.each, (m) => repeat(blocksOf(frame).dimQuads, (w) => text(m, w)));
}

/** Adds quads `q{w}` of D, weighted by `p{i}`, to the sums `name`. */
export function addSums(frame: Frame, name: string): string {
  return eachSum(
    frame,
    (m, w) => `      ${name}${m}_${w} = fma(vec4f(p${m >> 2}.${"xyzw"[m & 3]}), q${w}, ${name}${m}_${w});\n`,
  );
}

/**
 * Writes text for each own row of a thread, skipping rows past the end.
 *
 * @param frame The frame
 * @param body WGSL, given the number m of a row and its quad and lane (`"0.x"`, ...); it may use `row`
 * @returns WGSL
 */
export function eachRow(frame: Frame, body: (m: number, lane: string) => string): string {
  const { high } = blocksOf(frame);
  return repeat(frame.each, (m) =>
    `  { let row = first + 4u * ownQuad + ${4 * high * (m >> 2) + (m & 3)}u;
    if (row < ${frame.count}u) {
${body(m, `${m >> 2}.${"xyzw"[m & 3]}`)}    }
  }
`);
}

/** Stores the sums `name` of row m times a factor; `to` is WGSL for the first load of the row. */
export function writeSums(frame: Frame, { name, buffer, to, factor, m }: {
  readonly name: string;
  readonly buffer: string;
  readonly to: string;
  readonly factor: string;
  readonly m: number;
}): string {
  return repeat(
    blocksOf(frame).dimQuads,
    (w) => `      ${frame.put(buffer, `${to} + tx + ${w * frame.split}u`, `${name}${m}_${w} * ${factor}`)}\n`,
  );
}
