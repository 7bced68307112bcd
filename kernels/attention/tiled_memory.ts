/**
 * Workgroup memory of tiled attention kernels: where quads lie, and how rows get there from storage.
 *
 * A sum over D or over streamed rows walks lines: all rows at one element of D, or one streamed row. A line is made of
 * quads; quad q belongs to thread `q % span` of the threads along it. Lines lie in groups of four that were loaded
 * together, and arrays are nested, so that text chooses the group and the line, and a thread its quad once and for all:
 * checks on indices then cost once, not with each load. Neighbouring threads write neighbouring groups at once; so
 * quads are turned by the group, `q ^ group`, into different banks.
 *
 * @module
 */

import { repeat } from "../kernel.ts";
import { sharedGroups } from "./tiling.ts";
import type { Frame } from "./frame.ts";

/** Rows and elements that a thread brings at once, and lines of a group. */
export const FOUR = 4;
/** Quads of all banks. */
const BANKS = 8;

/** Threads that run in step. */
const SUBGROUP = 32;

/** Threads along a kind of lines. */
export interface Side {
  /** `x` for streamed rows, `y` for own rows: thread `tx` or `ty`. */
  readonly name: "x" | "y";
  readonly span: number;
  /** Quads of a thread. */
  readonly quads: number;
}

/** What follows from the tiling of a frame. */
export interface Blocks {
  readonly x: Side;
  readonly y: Side;
  /** Quads of D of a thread, in a sum over streamed rows. */
  readonly wide: number;
  /** Quads that a dynamic index chooses from: the smaller span. */
  readonly unit: number;
  /** Threads along own rows that a subgroup of 32 holds. */
  readonly high: number;
  /** Whether a subgroup skips products of tiles that none of its rows sees. */
  readonly skips: boolean;
}

/** An array in workgroup memory. */
export interface Tile {
  readonly name: string;
  readonly groups: number;
  /** Quads of a line; more than a span holds several lines side by side. */
  readonly line: number;
}

/** A group of lines in text: its number, or WGSL for it in a loop. */
export type Group = number | string;

/**
 * Resolves the blocks of a frame.
 *
 * @param frame The frame
 * @returns The blocks
 */
export function blocksOf({ rows, each, tile, split, loads, causal }: Frame): Blocks {
  const down = rows / each, high = Math.min(SUBGROUP / split, down);
  return {
    x: { name: "x", span: split, quads: tile / FOUR / split },
    y: { name: "y", span: down, quads: each / FOUR },
    wide: loads / split,
    unit: Math.min(split, down),
    high,
    skips: causal && high < down,
  };
}

/**
 * The arrays of a frame.
 *
 * @param frame The frame
 * @returns Own rows of a name; streamed rows across D, then weights; streamed rows across or along D
 */
export function tilesOf(frame: Frame): {
  readonly own: (name: string) => Tile;
  readonly shared: Tile;
  readonly streamed: Tile;
} {
  const { x, y } = blocksOf(frame);
  const { loads, tile, shape } = frame;
  return {
    own: (name) => ({ name, groups: loads, line: y.span }),
    shared: {
      name: "ta",
      groups: sharedGroups({ ...frame, dim: shape.dim }),
      line: Math.max(x.span, y.span),
    },
    streamed: { name: "tb", groups: loads * tile / FOUR / x.span, line: x.span },
  };
}

/** Declares an array. */
export function declareTile(frame: Frame, { name, groups, line }: Tile): string {
  const { unit } = blocksOf(frame);
  const sizes = [groups, FOUR, ...(line > unit ? [line / unit] : []), unit];
  return `var<workgroup> ${name}: ${
    sizes.reduceRight((type, size) => `array<${type}, ${size}>`, "vec4f")
  };\n`;
}

/** Declares `tx`, `ty`, their quads turned in all ways, and `ownQuad`, the first quad of own rows of a thread. */
export function declareTurns(frame: Frame): string {
  const { x, y, unit, high } = blocksOf(frame);
  const turns = ({ name, span }: Side): string =>
    repeat(Math.min(BANKS, span), (t) => {
      const at = `t${name} ^ ${t}u`;
      if (span === unit) return `  let ${name}${t} = ${at};\n`;
      return `  let ${name}${t}h = (${at}) / ${unit}u;\n  let ${name}${t}l = (${at}) % ${unit}u;\n`;
    });
  return `  let tx = lid % ${x.span}u;
  let ty = lid / ${x.span}u;
  let ownQuad = ty / ${high}u * ${high}u + ty % ${high}u;
${turns(x)}${turns(y)}`;
}

/** Ways in which the lines of a side are turned. */
function turnsOf({ span, quads }: Side): number {
  return Math.min(BANKS, span * quads);
}

/** WGSL for a quad of a line. */
function place({ unit }: Blocks, { name, line }: Tile, at: {
  readonly span: number;
  readonly group: Group;
  readonly c: number;
  readonly quad: string;
}): string {
  const fold = at.span === unit ? line / at.span : 1;
  if (fold === 1) return `${name}[${at.group}][${at.c}]${at.quad}`;
  const [high, low] = typeof at.group === "number"
    ? [Math.floor(at.group / fold), at.group % fold]
    : [`(${at.group}) / ${fold}u`, `(${at.group}) % ${fold}u`];
  return `${name}[${high}][${at.c}][${low}]${at.quad}`;
}

/** WGSL for the index of a quad among those of a span. */
function index({ unit }: Blocks, span: number, quad: string): string {
  return span === unit ? `[${quad}]` : `[(${quad}) / ${unit}u][(${quad}) % ${unit}u]`;
}

/** WGSL for the quad of a thread whose turn is written out. */
function turned({ unit }: Blocks, { name, span }: Side, turn: number): string {
  return span === unit ? `[${name}${turn}]` : `[${name}${turn}h][${name}${turn}l]`;
}

/**
 * WGSL for quad `sub` of a thread, of line `c` of a group whose lines are turned.
 *
 * @param frame The frame
 * @param options The array, whose quads, and which
 * @returns WGSL
 */
export function turnedQuad(frame: Frame, { tile, side, sub, group, c }: {
  readonly tile: Tile;
  readonly side: Side;
  readonly sub: number;
  readonly group: Group;
  readonly c: number;
}): string {
  const blocks = blocksOf(frame);
  const { name, span, quads } = side;
  const turns = turnsOf(side);
  if (typeof group === "number") {
    const turn = group % turns;
    const at = group * quads + (sub ^ Math.floor(turn / span));
    return place(blocks, tile, { span, group: at, c, quad: turned(blocks, side, turn % span) });
  }
  const turn = `(${group}) % ${turns}u`;
  const at = `(${group}) * ${quads}u + (${sub}u ^ (${turn} / ${span}u))`;
  return place(blocks, tile, {
    span,
    group: at,
    c,
    quad: index(blocks, span, `(t${name} ^ (${turn})) % ${span}u`),
  });
}

/** WGSL for quad `sub` of D of a thread, of streamed row `c` of a group that lies along D. */
export function straightQuad(frame: Frame, { tile, sub, group, c }: {
  readonly tile: Tile;
  readonly sub: number;
  readonly group: Group;
  readonly c: number;
}): string {
  const blocks = blocksOf(frame);
  const at = typeof group === "number" ? group * blocks.wide + sub : `(${group}) * ${blocks.wide}u + ${sub}u`;
  return place(blocks, tile, { span: blocks.x.span, group: at, c, quad: turned(blocks, blocks.x, 0) });
}

/** Puts four quads of lines that are turned: line `c` of `group` (WGSL) gets `values(c)` as quad `quad` (WGSL). */
export function putTurned(frame: Frame, { tile, side, group, quad, values }: {
  readonly tile: Tile;
  readonly side: Side;
  readonly group: string;
  readonly quad: string;
  readonly values: (c: number) => string;
}): string {
  const blocks = blocksOf(frame);
  const { span, quads } = side;
  const store = (c: number): string =>
    `      ${place(blocks, tile, { span, group: "at", c, quad: index(blocks, span, `z % ${span}u`) })} = ${
      values(c)
    };\n`;
  return `    { let z = (${quad}) ^ ((${group}) % ${turnsOf(side)}u);
      let at = (${group}) * ${quads}u + z / ${span}u;
${repeat(FOUR, store)}    }\n`;
}

/** A buffer with rows of D elements, and WGSL for the first load of a row given its index. */
export interface Rows {
  readonly buffer: string;
  readonly address: (row: string) => string;
  /** Loads from one row to the next. */
  readonly stride: number;
}

/** WGSL of the l-th block of a thread: its quad of D, its four rows, and whether all threads have one. */
interface Turn {
  readonly loadQuad: string;
  readonly loadRow: string;
  readonly whole: boolean;
}

/** Shares blocks of four rows by four elements among the threads: neighbours load neighbouring quads of D. */
function turnsOfLoads({ threads, loads }: Frame, rows: number): readonly Turn[] {
  const blocks = rows / FOUR * loads;
  return Array.from({ length: Math.ceil(blocks / threads) }, (_, l) => {
    const id = l === 0 ? "lid" : `(lid + ${l * threads}u)`;
    const aligned = threads % loads === 0;
    return {
      loadQuad: aligned ? `lid % ${loads}u` : `${id} % ${loads}u`,
      loadRow: aligned ? `lid / ${loads}u + ${l * threads / loads}u` : `${id} / ${loads}u`,
      whole: (l + 1) * threads <= blocks,
    };
  });
}

/** Statements of the threads that have a block; they see `loadQuad` and `loadRow`. */
function withTurn({ loadQuad, loadRow, whole }: Turn, rows: number, text: string): string {
  const inner = `    let loadQuad = ${loadQuad};\n    let loadRow = ${loadRow};\n`;
  return whole
    ? `    {\n${inner}${text}    }\n`
    : `    {\n${inner}    if (loadRow < ${rows / FOUR}u) {\n${text}    }\n    }\n`;
}

/** What line `c` gets of the four rows in registers `name{r}`. */
function across(name: string, c: number): string {
  return `vec4f(${[0, 1, 2, 3].map((r) => `${name}${r}.${"xyzw"[c]}`).join(", ")})`;
}

/**
 * Loads the own rows of the block into an array; rows past the end repeat the last one.
 *
 * @param frame The frame
 * @param options The array, the rows, and WGSL of a factor
 * @returns WGSL
 */
export function loadOwn(frame: Frame, { tile, rows: { buffer, address }, factor }: {
  readonly tile: Tile;
  readonly rows: Rows;
  readonly factor?: string;
}): string {
  const { rows, count } = frame;
  const times = factor === undefined ? "" : ` * ${factor}`;
  const row = (r: number): string => address(`min(first + loadRow * 4u + ${r}u, ${count - 1}u)`);
  const block =
    repeat(FOUR, (r) => `    let own${r} = ${frame.load(buffer, `${row(r)} + loadQuad`)}${times};\n`) +
    putTurned(frame, {
      tile,
      side: blocksOf(frame).y,
      group: "loadQuad",
      quad: "loadRow",
      values: (c) => across("own", c),
    });
  return turnsOfLoads(frame, rows).map((turn) => withTurn(turn, rows, block)).join("");
}

/** Declares the registers `name` of {@link fetch}. */
export function fetched(frame: Frame, name: string): string {
  return turnsOfLoads(frame, frame.tile).map((_, l) =>
    repeat(FOUR, (r) => `  var ${name}${l}_${r} = vec4f();\n`)
  ).join("");
}

/**
 * Loads a tile of streamed rows into registers; rows after `last` repeat it.
 *
 * @param frame The frame
 * @param options The rows, WGSL for the first row of the tile (i32), and the name of the registers
 * @returns WGSL
 */
export function fetch(frame: Frame, { rows: { buffer, address }, base, to }: {
  readonly rows: Rows;
  readonly base: string;
  readonly to: string;
}): string {
  const row = (r: number): string => address(`u32(min(${base} + i32(loadRow * 4u) + ${r}, last))`);
  return turnsOfLoads(frame, frame.tile).map((turn, l) =>
    withTurn(
      turn,
      frame.tile,
      repeat(FOUR, (r) => `      ${to}${l}_${r} = ${frame.load(buffer, `${row(r)} + loadQuad`)};\n`),
    )
  ).join("");
}

/** Puts the registers of {@link fetch} into a tile whose lines run across D. */
export function keepAcross(
  frame: Frame,
  { from, tile }: { readonly from: string; readonly tile: Tile },
): string {
  return turnsOfLoads(frame, frame.tile).map((turn, l) =>
    withTurn(
      turn,
      frame.tile,
      putTurned(frame, {
        tile,
        side: blocksOf(frame).x,
        group: "loadQuad",
        quad: "loadRow",
        values: (c) => across(`${from}${l}_`, c),
      }),
    )
  ).join("");
}

/** Puts the registers of {@link fetch} into a tile whose lines run along D. */
export function keepAlong(
  frame: Frame,
  { from, tile }: { readonly from: string; readonly tile: Tile },
): string {
  const blocks = blocksOf(frame);
  const { span } = blocks.x;
  const at = {
    span,
    group: `loadRow * ${blocks.wide}u + loadQuad / ${span}u`,
    quad: index(blocks, span, `loadQuad % ${span}u`),
  };
  return turnsOfLoads(frame, frame.tile).map((turn, l) =>
    withTurn(
      turn,
      frame.tile,
      repeat(FOUR, (c) => `      ${place(blocks, tile, { ...at, c })} = ${from}${l}_${c};\n`),
    )
  ).join("");
}
