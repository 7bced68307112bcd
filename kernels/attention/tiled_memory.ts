/**
 * Workgroup memory of the tiled kernels: where the quads of a tile lie, and how rows get there from storage.
 *
 * A sum over D or over streamed rows walks lines: all rows at one element of D, or one streamed row. A line is made of
 * quads; quad q belongs to thread `q % span` of the threads along it. Lines lie in groups of four that were loaded
 * together. Arrays are nested: the text chooses the group and the line, and a thread chooses its quad once, so that index
 * checks cost once and not with each load. Neighbouring threads write neighbouring groups at the same time, so quads are
 * swizzled by their group, `q ^ group`, into different banks.
 *
 * @module
 */

import { repeat } from "../kernel.ts";
import type { Frame } from "./frame.ts";
import { type Blocks, blocksOf, FOUR, type Group, type Rows, type Side } from "./thread_block.ts";
import { sharedGroups } from "./tiling.ts";

/** Quads that the banks of workgroup memory hold side by side. */
const BANKS = 8;

/** An array in workgroup memory. */
export interface Tile {
  readonly name: string;
  readonly groups: number;
  /** Quads of a row of the array; more than a span when it holds several lines side by side. */
  readonly line: number;
}

/**
 * The workgroup arrays of a tiled kernel.
 *
 * @param frame The frame
 * @returns `own`: the array of own rows of a name; `shared`: streamed rows, transposed, then weights; `streamed`: streamed rows, transposed or not
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

/** Declares `tx`, `ty`, their swizzled quads, and `ownQuad`, the first quad of own rows of a thread. */
export function declareSwizzles(frame: Frame): string {
  const { x, y, unit, high } = blocksOf(frame);
  const swizzles = ({ name, span }: Side): string =>
    repeat(Math.min(BANKS, span), (t) => {
      const at = `t${name} ^ ${t}u`;
      if (span === unit) return `  let ${name}${t} = ${at};\n`;
      return `  let ${name}${t}h = (${at}) / ${unit}u;\n  let ${name}${t}l = (${at}) % ${unit}u;\n`;
    });
  return `  let tx = lid % ${x.span}u;
  let ty = lid / ${x.span}u;
  let ownQuad = ty / ${high}u * ${high}u + ty % ${high}u;
${swizzles(x)}${swizzles(y)}`;
}

/** Number of distinct swizzles along a side. */
function swizzlesOf({ span, quads }: Side): number {
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

/** WGSL for the index of a quad within a span. */
function index({ unit }: Blocks, span: number, quad: string): string {
  return span === unit ? `[${quad}]` : `[(${quad}) / ${unit}u][(${quad}) % ${unit}u]`;
}

/** WGSL for the quad of a thread under a constant swizzle. */
function swizzled({ unit }: Blocks, { name, span }: Side, swizzle: number): string {
  return span === unit ? `[${name}${swizzle}]` : `[${name}${swizzle}h][${name}${swizzle}l]`;
}

/**
 * WGSL for quad `sub` of a thread in line `c` of a swizzled group.
 *
 * @param frame The frame
 * @param options The array, the side, and which quad, group and line
 * @returns WGSL
 */
export function swizzledQuad(frame: Frame, { tile, side, sub, group, c }: {
  readonly tile: Tile;
  readonly side: Side;
  readonly sub: number;
  readonly group: Group;
  readonly c: number;
}): string {
  const blocks = blocksOf(frame);
  const { name, span, quads } = side;
  const swizzles = swizzlesOf(side);
  if (typeof group === "number") {
    const swizzle = group % swizzles;
    const at = group * quads + (sub ^ Math.floor(swizzle / span));
    return place(blocks, tile, { span, group: at, c, quad: swizzled(blocks, side, swizzle % span) });
  }
  const swizzle = `(${group}) % ${swizzles}u`;
  const at = `(${group}) * ${quads}u + (${sub}u ^ (${swizzle} / ${span}u))`;
  return place(blocks, tile, {
    span,
    group: at,
    c,
    quad: index(blocks, span, `(t${name} ^ (${swizzle})) % ${span}u`),
  });
}

/** WGSL for quad `sub` of D of a thread in streamed row `c` of a group that is not transposed. */
export function plainQuad(frame: Frame, { tile, sub, group, c }: {
  readonly tile: Tile;
  readonly sub: number;
  readonly group: Group;
  readonly c: number;
}): string {
  const blocks = blocksOf(frame);
  const at = typeof group === "number"
    ? group * blocks.dimQuads + sub
    : `(${group}) * ${blocks.dimQuads}u + ${sub}u`;
  return place(blocks, tile, { span: blocks.x.span, group: at, c, quad: swizzled(blocks, blocks.x, 0) });
}

/** Stores four swizzled quads: line `c` of `group` (WGSL) gets `values(c)` as quad `quad` (WGSL). */
export function storeSwizzled(frame: Frame, { tile, side, group, quad, values }: {
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
  return `    { let z = (${quad}) ^ ((${group}) % ${swizzlesOf(side)}u);
      let at = (${group}) * ${quads}u + z / ${span}u;
${repeat(FOUR, store)}    }\n`;
}

/** WGSL for one block that each thread loads: its quad of D, its four rows, and whether every thread has one. */
interface LoadRound {
  readonly loadQuad: string;
  readonly loadRow: string;
  readonly whole: boolean;
}

/** Divides blocks of four rows by four elements among the threads: neighbours load neighbouring quads of D. */
function loadRounds({ threads, loads }: Frame, rows: number): readonly LoadRound[] {
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

/** Runs `text` in the threads that have a block; it may use `loadQuad` and `loadRow`. */
function withRound({ loadQuad, loadRow, whole }: LoadRound, rows: number, text: string): string {
  const inner = `    let loadQuad = ${loadQuad};\n    let loadRow = ${loadRow};\n`;
  return whole
    ? `    {\n${inner}${text}    }\n`
    : `    {\n${inner}    if (loadRow < ${rows / FOUR}u) {\n${text}    }\n    }\n`;
}

/** WGSL for element c of the four rows in registers `name{r}`. */
function transposedLine(name: string, c: number): string {
  return `vec4f(${[0, 1, 2, 3].map((r) => `${name}${r}.${"xyzw"[c]}`).join(", ")})`;
}

/**
 * Loads own rows into workgroup memory, transposed; rows past the end repeat the last one.
 *
 * @param frame The frame
 * @param options The array, the rows, and WGSL for a factor
 * @returns WGSL
 */
export function loadOwnRows(frame: Frame, { tile, rows: { buffer, address }, factor }: {
  readonly tile: Tile;
  readonly rows: Rows;
  readonly factor?: string;
}): string {
  const { rows, count } = frame;
  const times = factor === undefined ? "" : ` * ${factor}`;
  const row = (r: number): string => address(`min(first + loadRow * 4u + ${r}u, ${count - 1}u)`);
  const block =
    repeat(FOUR, (r) => `    let own${r} = ${frame.load(buffer, `${row(r)} + loadQuad`)}${times};\n`) +
    storeSwizzled(frame, {
      tile,
      side: blocksOf(frame).y,
      group: "loadQuad",
      quad: "loadRow",
      values: (c) => transposedLine("own", c),
    });
  return loadRounds(frame, rows).map((round) => withRound(round, rows, block)).join("");
}

/** Declares the registers `name` of {@link prefetch}. */
export function declareRegisters(frame: Frame, name: string): string {
  return loadRounds(frame, frame.tile).map((_, l) =>
    repeat(FOUR, (r) => `  var ${name}${l}_${r} = vec4f();\n`)
  ).join("");
}

/**
 * Loads a tile of streamed rows into registers; rows past `last` repeat it.
 *
 * @param frame The frame
 * @param options The rows, WGSL for the first row of the tile (i32), and the name of the registers
 * @returns WGSL
 */
export function prefetch(frame: Frame, { rows: { buffer, address }, base, to }: {
  readonly rows: Rows;
  readonly base: string;
  readonly to: string;
}): string {
  const row = (r: number): string => address(`u32(min(${base} + i32(loadRow * 4u) + ${r}, last))`);
  return loadRounds(frame, frame.tile).map((round, l) =>
    withRound(
      round,
      frame.tile,
      repeat(FOUR, (r) => `      ${to}${l}_${r} = ${frame.load(buffer, `${row(r)} + loadQuad`)};\n`),
    )
  ).join("");
}

/** Stores the registers of {@link prefetch} transposed: a line holds one element of D of all rows. */
export function storeTransposed(
  frame: Frame,
  { from, tile }: { readonly from: string; readonly tile: Tile },
): string {
  return loadRounds(frame, frame.tile).map((round, l) =>
    withRound(
      round,
      frame.tile,
      storeSwizzled(frame, {
        tile,
        side: blocksOf(frame).x,
        group: "loadQuad",
        quad: "loadRow",
        values: (c) => transposedLine(`${from}${l}_`, c),
      }),
    )
  ).join("");
}

/** Stores the registers of {@link prefetch} as they are: a line is one row. */
export function storeRows(
  frame: Frame,
  { from, tile }: { readonly from: string; readonly tile: Tile },
): string {
  const blocks = blocksOf(frame);
  const { span } = blocks.x;
  const at = {
    span,
    group: `loadRow * ${blocks.dimQuads}u + loadQuad / ${span}u`,
    quad: index(blocks, span, `loadQuad % ${span}u`),
  };
  return loadRounds(frame, frame.tile).map((round, l) =>
    withRound(
      round,
      frame.tile,
      repeat(FOUR, (c) => `      ${place(blocks, tile, { ...at, c })} = ${from}${l}_${c};\n`),
    )
  ).join("");
}
