/**
 * Products of attention as loops over stages: 16 steps of the sum of both sides are brought to workgroup memory, where
 * each thread multiplies its block of them.
 *
 * @module
 */

import { repeat } from "../kernel.ts";
import { BARRIER, columnAt, eachColumn, scoreStep, steps, sumStep } from "./tiled_products.ts";
import { blocksOf, type Group, type Rows } from "./tiled_memory.ts";
import { LAST } from "./tiled.ts";
import { attentionMain, type Frame, queryRow } from "./frame.ts";

/** Steps of a sum that are staged at once, in groups of four lines. */
export const DEPTH = 16;
export const FOUR = 4;
const GROUPS = DEPTH / FOUR;
/** Threads that run in step. */
const SUBGROUP = 32;

/** A loop over the staged parts of a product. */
interface Stage extends Fill {
  readonly parts: number;
  /** Multiplies part `c`. */
  readonly product: string;
}

/** Declares so many lines of so many quads. */
export function memory(
  { name, lines, quads }: { readonly name: string; readonly lines: number; readonly quads: number },
): string {
  return `struct Group_${name} { row: array<array<vec4f, ${quads}>, ${FOUR}>, pad: vec4f }
var<workgroup> ${name}: array<array<Group_${name}, ${GROUPS}>, ${lines / DEPTH}>;\n`;
}

/** Declares a zero that a compiler does not know: so it writes out no loops, which would not fit its cache. */
const NONE = "  let none = (nwg.x * nwg.z) >> 31u;\n";

/** Lines of `ta` where it also holds weights: as many as each thread has in a quad of columns. */
export function held({ split }: Frame): number {
  return Math.max(DEPTH, FOUR * split);
}

/** Declares workgroup memory, opens `main`, and declares the indices of a thread. */
export function open(frame: Frame, { reversed, lines, extra }: {
  readonly reversed: boolean;
  readonly lines: number;
  readonly extra: string;
}): string {
  const { split, rows, tile, loads } = frame;
  const { x, y, wide, high } = blocksOf(frame);
  return memory({ name: "ta", lines, quads: rows / FOUR }) +
    memory({ name: "tb", lines: DEPTH, quads: Math.max(tile / FOUR, loads) }) + extra +
    attentionMain(frame, { reversed }) + NONE +
    `  let tx = lid % ${split}u;\n  let ty = lid / ${split}u;\n` +
    `  let ownQuad = ty / ${high}u * ${high * y.quads}u + ty % ${high}u;\n` +
    repeat(y.quads, (i) => `  let y${i}q = ownQuad + ${i * high}u;\n`) +
    repeat(Math.max(x.quads, wide), (j) => `  let x${j}q = tx + ${j * split}u;\n`);
}

/** WGSL for the first row of the tile after this one. */
export function following({ tile }: Frame): string {
  return `base + ${tile}`;
}

/** Declares `last`, and registers for the largest part of a product, with the first part of the first stage. */
export function start(frame: Frame, first: Stage): string {
  const { loads, threads } = frame;
  const count = Math.max(ownRegisters(frame) + otherRegisters(frame), Math.ceil(DEPTH * loads / threads));
  return LAST + repeat(count, (r) => `  var f${r} = vec4f();\n`) + first.fetch("0u", "lo");
}

/** Whether half the threads load own rows, and the other half streamed rows into the same registers. */
function halved({ rows, tile, threads }: Frame): boolean {
  return Math.max(rows, tile) * 2 <= threads && threads % (2 * SUBGROUP) === 0;
}

/** Registers of a thread for a part of own rows. */
function ownRegisters({ rows, threads }: Frame): number {
  return FOUR * Math.ceil(rows / threads);
}

/** Registers of a thread for a part of streamed rows, beside those of own rows. */
function otherRegisters(frame: Frame): number {
  const { tile, threads } = frame;
  return halved(frame) ? 0 : Math.ceil(tile * GROUPS / threads);
}

/** Text of a stage, which loads the next part, and at the end `next`, while it multiplies. */
export function loop({ parts, fetch, keep, product }: Stage, next: string): string {
  return `    for (var c = 0u; c < ${parts}u + none; c += 1u) {\n${BARRIER}${keep}${BARRIER}    if (c < ${
    parts - 1
  }u) {\n${fetch("(c + 1u)", "base")}    } else {\n${next}    }\n${product}    }\n`;
}

/** Text of a stage that reads the block `name` as weights from `ta`, a quad of columns of each thread at a time. */
export function putting(frame: Frame, { stage, name, next, ready = false }: {
  readonly stage: Stage;
  readonly name: string;
  readonly next: string;
  /** Whether all threads have left the product before. */
  readonly ready?: boolean;
}): string {
  const { x } = blocksOf(frame);
  const put = (quad: number): string =>
    atColumns(
      frame,
      "ta",
      (j, i, place) => j >> 2 === quad ? `    ${place} = ${name}${j}_${i};\n` : "",
      "tx",
    );
  if (x.quads === 1) return (ready ? "" : BARRIER) + put(0) + loop(stage, next);
  const parts = stage.parts / x.quads;
  const part = (c: string): string => `(turn * ${parts}u + ${c})`;
  const fetch = (c: string, base: string): string => stage.fetch(part(c), base);
  const last = `    if (turn < ${x.quads - 1}u) {\n${
    stage.fetch(`((turn + 1u) * ${parts}u)`, "base")
  }    } else {\n${next}    }\n`;
  return `    for (var turn = 0u; turn < ${x.quads}u + none; turn += 1u) {\n${BARRIER}    switch turn {\n${
    repeat(x.quads, (q) => `    ${q === x.quads - 1 ? "default" : `case ${q}u`}: {\n${put(q)}    }\n`)
  }    }\n${loop({ ...stage, parts, fetch }, last)}    }\n`;
}

/** Writes text for every column and quad of own rows, given its place among weights. */
export function atColumns(
  frame: Frame,
  name: string,
  text: (j: number, i: number, place: string) => string,
  group?: string,
): string {
  return eachColumn(frame, (j, i) => {
    const at = group ?? `x${j >> 2}q`;
    return text(j, i, `${name}[${at} / ${GROUPS}u][${at} % ${GROUPS}u].row[${j & 3}][y${i}q]`);
  });
}

/** Declares `name{j}`, what a buffer of the queries holds for column j. */
export function columnValues(
  frame: Frame,
  { name, buffer }: { readonly name: string; readonly buffer: string },
): string {
  const count = frame.shape.time;
  return repeat(
    4 * blocksOf(frame).x.quads,
    (j) =>
      `    let ${name}${j} = ${buffer}[${
        queryRow(frame, { i: `u32(min(${columnAt(frame, j)}, last))`, count })
      }];\n`,
  );
}

/** Statements of the threads that have a load, of so many; `first` is WGSL for the number of the first of a thread. */
function within(
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

/** What loads registers from part `c` (WGSL) of the tile at `base` (WGSL), and puts them into workgroup memory. */
interface Fill {
  readonly fetch: (c: string, base: string) => string;
  readonly keep: string;
}

/** Rows of one side as a tile has them: row `i` (WGSL, u32) of the tile at `base` (WGSL, i32). */
interface Lines {
  readonly rows: Rows;
  /** The number of a row in its buffer. */
  readonly number: (i: string, base: string) => string;
  /** Whether rows of a tile follow each other, the last ones too. */
  readonly whole: boolean;
}

/** Own rows; those past the end repeat the last one. */
function ownLines({ rows: height, count }: Frame, rows: Rows): Lines {
  const whole = count % height === 0;
  return { rows, whole, number: (i) => whole ? `(first + ${i})` : `min(first + ${i}, ${count - 1}u)` };
}

/** Streamed rows; unless tiles are `whole`, those past the last that is seen repeat it. */
export function streamedLines(rows: Rows, whole: boolean): Lines {
  const number = (i: string, base: string): string =>
    whole ? `(u32(${base}) + ${i})` : `u32(min(${base} + i32(${i}), last))`;
  return { rows, whole, number };
}

/** Rows to put across D, as many as `count`, and the number of their first register. */
interface Across {
  readonly name: string;
  readonly to: number;
  readonly count: number;
  readonly lines: Lines;
  readonly factor?: string;
}

/** Loads blocks of four rows by four elements of D, with so many threads. */
function blocks(
  { load: read }: Frame,
  { name, to, count, lines, factor, threads, first }: Across & {
    readonly threads: number;
    readonly first: string;
  },
): Fill {
  const { rows: { buffer, address, stride }, number, whole } = lines;
  // Eight lanes that write at once have four groups, a quad apart, and quads four apart.
  const place = `      let group = id % ${GROUPS}u;
      let quad = id / 32u * 8u + id / 4u % 2u * 4u + id / 8u % 4u;\n`;
  const all = (text: (at: number) => string): string =>
    repeat(
      Math.ceil(count / threads),
      (l) => within({ count, l, threads, first }, place + text(to + FOUR * l)),
    );
  const times = factor === undefined ? "" : ` * ${factor}`;
  const line = (at: number, c: number): string =>
    `vec4f(${[0, 1, 2, 3].map((r) => `f${at + r}.${"xyzw"[c]}`).join(", ")})${times}`;
  const load = (i: string, base: string, c: string): string =>
    `${address(number(i, base))} + ${c} * ${GROUPS}u + group`;
  const fetch = (at: number, c: string, base: string): string =>
    whole
      ? `      let at = ${load("quad * 4u", base, c)};\n` +
        repeat(FOUR, (r) => `      f${at + r} = ${read(buffer, `at + ${r * stride}u`)};\n`)
      : repeat(FOUR, (r) => `      f${at + r} = ${read(buffer, load(`quad * 4u + ${r}u`, base, c))};\n`);
  return {
    fetch: (c, base) => all((at) => fetch(at, c, base)),
    keep: all((at) => repeat(FOUR, (c) => `      ${name}[0][group].row[${c}][quad] = ${line(at, c)};\n`)),
  };
}

/** Loads four elements of D of a row each, so that more threads have a load than with {@link blocks}. */
function singles(
  { threads, load }: Frame,
  { name, to, count, lines: { rows: { buffer, address }, number } }: Across,
): Fill {
  const place = `      let group = id % ${GROUPS}u;\n      let row = id / ${GROUPS}u;\n`;
  const all = (text: (at: number) => string): string =>
    repeat(
      Math.ceil(count * GROUPS / threads),
      (l) => within({ count: count * GROUPS, l, threads }, place + text(to + l)),
    );
  return {
    fetch: (c, base) =>
      all((at) =>
        `      f${at} = ${load(buffer, `${address(number("row", base))} + ${c} * ${GROUPS}u + group`)};\n`
      ),
    keep: all((at) =>
      repeat(
        FOUR,
        (c) => `      ${name}[0][group].row[${c}][row / ${FOUR}u][row % ${FOUR}u] = f${at}.${"xyzw"[c]};\n`,
      )
    ),
  };
}

/** Loads own rows and streamed rows. */
function both(frame: Frame, own: Across, other: Across): Fill {
  const { threads } = frame;
  if (halved(frame)) {
    const half = threads / 2;
    const [a, b] = [own, { ...other, to: 0 }].map((side) =>
      blocks(frame, { ...side, threads: half, first: `lid % ${half}u` })
    );
    const either = (x: string, y: string): string =>
      `    if (lid < ${half}u) {\n${x}    } else {\n${y}    }\n`;
    return { fetch: (c, base) => either(a.fetch(c, base), b.fetch(c, base)), keep: either(a.keep, b.keep) };
  }
  const a = blocks(frame, { ...own, threads, first: "lid" });
  const b = singles(frame, other);
  return { fetch: (c, base) => a.fetch(c, base) + b.fetch(c, base), keep: a.keep + b.keep };
}

/** A product of own rows with streamed rows along D, added to the block `name`. */
export function across(frame: Frame, { name, own, other }: {
  readonly name: string;
  readonly own: { readonly rows: Rows; readonly factor?: string };
  readonly other: Lines;
}): Stage {
  const { x, y } = blocksOf(frame);
  const { rows, tile, loads } = frame;
  const fill = both(
    frame,
    { name: "ta", to: 0, count: rows, lines: ownLines(frame, own.rows), factor: own.factor },
    { name: "tb", to: ownRegisters(frame), count: tile, lines: other },
  );
  const step = (group: Group, c: number): string =>
    repeat(y.quads, (i) => `      let p${i} = ta[0][${group}].row[${c}][y${i}q];\n`) +
    repeat(x.quads, (j) => `      let q${j} = tb[0][${group}].row[${c}][x${j}q];\n`) +
    scoreStep(frame, name);
  return {
    parts: loads / GROUPS,
    ...fill,
    product: steps(frame, { groups: GROUPS, step }),
  };
}

/** A product of weights in workgroup memory with streamed rows, added to the sums `name`. */
export function along(frame: Frame, { name, lines, weights }: {
  readonly name: string;
  readonly lines: Lines;
  readonly weights: string;
}): Stage {
  const { y, wide } = blocksOf(frame);
  const { tile, loads, threads } = frame;
  const count = DEPTH * loads;
  const all = (text: (l: number) => string): string =>
    repeat(Math.ceil(count / threads), (l) => within({ count, l, threads }, place + text(l)));
  const place = `      let line = id / ${loads}u;\n      let quad = id % ${loads}u;\n`;
  const { rows: { buffer, address }, number } = lines;
  const load = (i: string, base: string): string => frame.load(buffer, `${address(number(i, base))} + quad`);
  const step = (group: Group, c: number): string =>
    repeat(y.quads, (i) => `      let p${i} = ${weights}[c][${group}].row[${c}][y${i}q];\n`) +
    repeat(wide, (w) => `      let q${w} = tb[0][${group}].row[${c}][x${w}q];\n`) +
    sumStep(frame, name);
  return {
    parts: tile / DEPTH,
    fetch: (c, base) => all((l) => `      f${l} = ${load(`${c} * ${DEPTH}u + line`, base)};\n`),
    keep: all((l) => `      tb[0][line / ${FOUR}u].row[line % ${FOUR}u][quad] = f${l};\n`),
    product: steps(frame, { groups: GROUPS, step }),
  };
}
