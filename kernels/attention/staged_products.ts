/**
 * The products of a staged kernel as loops over stages: while a stage is multiplied, the next one is loaded into registers.
 *
 * @module
 */

import { repeat } from "../kernel.ts";
import { declareDrops } from "./dropout.ts";
import { attentionMain, type Frame, NONE, queryRow } from "./frame.ts";
import {
  declareLines,
  GROUPS,
  loadOperands,
  ownRegisters,
  ownTileRows,
  STAGE_DEPTH,
  type StageLoad,
  streamedRegisters,
  type TileRows,
  withLoad,
} from "./staged_memory.ts";
import {
  addScores,
  addSums,
  BARRIER,
  blocksOf,
  columnAt,
  eachColumn,
  FOUR,
  type Group,
  LAST_ROW,
  type Rows,
  sumSteps,
} from "./thread_block.ts";

/** A product as a loop over stages. */
interface Stage extends StageLoad {
  readonly parts: number;
  /** WGSL that multiplies stage `c`. */
  readonly product: string;
}

/** Lines of `ta` when it also holds weights: those of one quad of columns of every thread. */
export function weightLines({ split }: Frame): number {
  return Math.max(STAGE_DEPTH, FOUR * split);
}

/** Declares workgroup memory, opens `main`, and declares the indices of a thread. */
export function stagedMain(frame: Frame, { reversed, lines, extra }: {
  readonly reversed: boolean;
  readonly lines: number;
  readonly extra: string;
}): string {
  const { split, rows, tile, loads } = frame;
  const { x, y, dimQuads, high } = blocksOf(frame);
  return declareLines({ name: "ta", lines, quads: rows / FOUR }) +
    declareLines({ name: "tb", lines: STAGE_DEPTH, quads: Math.max(tile / FOUR, loads) }) + extra +
    declareDrops(frame) + attentionMain(frame, { reversed }) + NONE +
    `  let tx = lid % ${split}u;\n  let ty = lid / ${split}u;\n` +
    `  let ownQuad = ty / ${high}u * ${high * y.quads}u + ty % ${high}u;\n` +
    repeat(y.quads, (i) => `  let y${i}q = ownQuad + ${i * high}u;\n`) +
    repeat(Math.max(x.quads, dimQuads), (j) => `  let x${j}q = tx + ${j * split}u;\n`);
}

/** WGSL for the first row of the tile after this one. */
export function nextTile({ tile }: Frame): string {
  return `base + ${tile}`;
}

/** Declares `last` and the registers of the largest stage, and loads the first stage. */
export function prefetchFirst(frame: Frame, first: Stage): string {
  const { loads, threads } = frame;
  const count = Math.max(
    ownRegisters(frame) + streamedRegisters(frame),
    Math.ceil(STAGE_DEPTH * loads / threads),
  );
  return LAST_ROW + repeat(count, (r) => `  var f${r} = vec4f();\n`) + first.load("0u", "lo");
}

/** Writes the loop over the stages of a product: each multiplies while the next one loads; the last loads `next`. */
export function stageLoop({ parts, load, store, product }: Stage, next: string): string {
  return `    for (var c = 0u; c < ${parts}u + none; c += 1u) {\n${BARRIER}${store}${BARRIER}    if (c < ${
    parts - 1
  }u) {\n${load("(c + 1u)", "base")}    } else {\n${next}    }\n${product}    }\n`;
}

/** Writes a product whose weights are the block `name`: they pass through `ta`, one quad of columns of each thread at a time. */
export function weightStages(frame: Frame, { stage, name, next, ready = false }: {
  readonly stage: Stage;
  readonly name: string;
  readonly next: string;
  /** Whether all threads have finished the product before, so that no barrier is needed. */
  readonly ready?: boolean;
}): string {
  const { x } = blocksOf(frame);
  const put = (quad: number): string =>
    eachColumnPlace(
      frame,
      "ta",
      (j, i, place) => j >> 2 === quad ? `    ${place} = ${name}${j}_${i};\n` : "",
      "tx",
    );
  if (x.quads === 1) return (ready ? "" : BARRIER) + put(0) + stageLoop(stage, next);
  const parts = stage.parts / x.quads;
  const part = (c: string): string => `(turn * ${parts}u + ${c})`;
  const load = (c: string, base: string): string => stage.load(part(c), base);
  const last = `    if (turn < ${x.quads - 1}u) {\n${
    stage.load(`((turn + 1u) * ${parts}u)`, "base")
  }    } else {\n${next}    }\n`;
  return `    for (var turn = 0u; turn < ${x.quads}u + none; turn += 1u) {\n${BARRIER}    switch turn {\n${
    repeat(x.quads, (q) => `    ${q === x.quads - 1 ? "default" : `case ${q}u`}: {\n${put(q)}    }\n`)
  }    }\n${stageLoop({ ...stage, parts, load }, last)}    }\n`;
}

/** Writes text for every column and quad of own rows, given its place among the weights in array `name`. */
export function eachColumnPlace(
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

/** Declares `name{j}`, the value of the query in column j. */
export function columnValues(
  frame: Frame,
  { name, value }: { readonly name: string; readonly value: (row: string) => string },
): string {
  const count = frame.shape.time;
  return repeat(
    4 * blocksOf(frame).x.quads,
    (j) =>
      `    let ${name}${j} = ${
        value(queryRow(frame, { i: `u32(min(${columnAt(frame, j)}, last))`, count }))
      };\n`,
  );
}

/** The product of own rows with streamed rows along D, added to the block `name`. */
export function scoreStage(frame: Frame, { name, own, other }: {
  readonly name: string;
  readonly own: { readonly rows: Rows; readonly factor?: string };
  readonly other: TileRows;
}): Stage {
  const { x, y } = blocksOf(frame);
  const { rows, tile, loads } = frame;
  const fill = loadOperands(
    frame,
    { name: "ta", to: 0, count: rows, lines: ownTileRows(frame, own.rows), factor: own.factor },
    { name: "tb", to: ownRegisters(frame), count: tile, lines: other },
  );
  const step = (group: Group, c: number): string =>
    repeat(y.quads, (i) => `      let p${i} = ta[0][${group}].row[${c}][y${i}q];\n`) +
    repeat(x.quads, (j) => `      let q${j} = tb[0][${group}].row[${c}][x${j}q];\n`) +
    addScores(frame, name);
  return {
    parts: loads / GROUPS,
    ...fill,
    product: sumSteps(frame, { groups: GROUPS, step }),
  };
}

/** The product of weights in workgroup memory with streamed rows, added to the sums `name`. */
export function sumStage(frame: Frame, { name, lines, weights }: {
  readonly name: string;
  readonly lines: TileRows;
  readonly weights: string;
}): Stage {
  const { y, dimQuads } = blocksOf(frame);
  const { tile, loads, threads } = frame;
  const count = STAGE_DEPTH * loads;
  const all = (text: (l: number) => string): string =>
    repeat(Math.ceil(count / threads), (l) => withLoad({ count, l, threads }, place + text(l)));
  const place = `      let line = id / ${loads}u;\n      let quad = id % ${loads}u;\n`;
  const { rows: { buffer, address }, number } = lines;
  const load = (i: string, base: string): string => frame.load(buffer, `${address(number(i, base))} + quad`);
  const step = (group: Group, c: number): string =>
    repeat(y.quads, (i) => `      let p${i} = ${weights}[c][${group}].row[${c}][y${i}q];\n`) +
    repeat(dimQuads, (w) => `      let q${w} = tb[0][${group}].row[${c}][x${w}q];\n`) +
    addSums(frame, name);
  return {
    parts: tile / STAGE_DEPTH,
    load: (c, base) => all((l) => `      f${l} = ${load(`${c} * ${STAGE_DEPTH}u + line`, base)};\n`),
    store: all((l) => `      tb[0][line / ${FOUR}u].row[line % ${FOUR}u][quad] = f${l};\n`),
    product: sumSteps(frame, { groups: GROUPS, step }),
  };
}
