/**
 * Matrix products of attention, and the loads that bring rows into workgroup memory.
 *
 * @module
 */

import { repeat } from "../kernel.ts";
import { keyAddress } from "./frame.ts";
import { DECLARE_LIVE, type MatrixFrame, OCTET, queryRowOf, WORDS } from "./matrix_frame.ts";
import { BARRIER } from "./thread_block.ts";

/** Rows of D elements in a buffer; `address` gives the first load of row `i` (WGSL, u32). */
export interface MatrixRows {
  readonly buffer: string;
  readonly address: (i: string) => string;
}

/** The rows of queries of the current head in `buffer`. */
export function matrixQueries(frame: MatrixFrame, buffer: string): MatrixRows {
  return { buffer, address: (i) => `${queryRowOf(frame, i)} * ${frame.loads}u` };
}

/** The rows of keys or values of the current head in `buffer`. */
export function matrixKeys(frame: MatrixFrame, buffer: string): MatrixRows {
  return { buffer, address: (i) => keyAddress(frame, i) };
}

/** Runs text for every load of `rows` rows by this thread, given the row `r` and the load `o` in it. */
function eachLoad(
  { threads, depth }: MatrixFrame,
  { rows, text }: { readonly rows: number; readonly text: (l: number) => string },
): string {
  const across = depth / OCTET, count = rows * across;
  return repeat(Math.ceil(count / threads), (l) => {
    const open = (l + 1) * threads <= count ? "{" : `if (lid + ${l * threads}u < ${count}u) {`;
    return `    ${open} let id = lid + ${l * threads}u; let r = id / ${across}u; let o = id % ${across}u;\n${
      text(l)
    }    }\n`;
  });
}

/** WGSL for load `o` of row `i`; zero past the end of the row. */
function loadOf({ depth, loads }: MatrixFrame, { buffer, address }: MatrixRows, i: string): string {
  const base = address(i);
  if (depth === loads * OCTET) return `${buffer}[${base} + o]`;
  return `select(vec4<u32>(), ${buffer}[${base} + min(o, ${loads - 1}u)], o < ${loads}u)`;
}

/** Names of the own operands' matrices, or loads of them: `left` gives unit row i and step c of operand `number`. */
export interface OwnOperand {
  readonly left: (i: number, c: number) => string;
  readonly declare: string;
}

/** Brings own rows into the registers of their subgroup, or into workgroup memory. */
export function ownOperand(frame: MatrixFrame, rows: MatrixRows, number: number): OwnOperand {
  const { by: { unit, high, held }, height, line, depth, count } = frame;
  const array = held ? "scores" : "own", start = held ? 0 : number * height * line;
  const at = `${array}[r / ${height}u][${start}u + r % ${height}u * ${line}u + o]`;
  const stage = eachLoad(frame, {
    rows: frame.rows,
    text: () => `      ${at} = ${loadOf(frame, rows, `min(first + r, ${count - 1}u)`)};\n`,
  });
  const load = (i: number, c: number): string =>
    WORDS.load({ role: "left", unit, byColumns: false }, {
      array: `&${array}[sid]`,
      offset: start + i * unit.m * line + c * unit.k / OCTET,
      stride: line,
    });
  if (!held) return { left: load, declare: stage };
  const name = (i: number, c: number): string => `own${number}_${i}_${c}`;
  const declare = stage + BARRIER +
    repeat(high, (i) => repeat(depth / unit.k, (c) => `  let ${name(i, c)} = ${load(i, c)};\n`)) + BARRIER;
  return { left: name, declare };
}

/** A tile of streamed rows: `tiles[WHICH]` holds its operands one after the other. */
export interface Streamed {
  readonly rows: readonly MatrixRows[];
  /** WGSL that loads further numbers of the tile at `ahead` into registers. */
  readonly load?: string;
  /** WGSL that stores them in `tiles[which]`. */
  readonly store?: (which: string) => string;
}

/** Texts of the loop over tiles. */
export interface TileSteps {
  readonly streamed: Streamed;
  /** WGSL at the start of every tile. */
  readonly start?: string;
  /** Products whose results are stored as scores. */
  readonly scores: (which: string) => string;
  /** Scores to weights. */
  readonly weigh: (which: string) => string;
  /** What follows the weights, with a barrier: one when absent. */
  readonly between?: string;
  /** Products with weights. */
  readonly sums: (which: string) => string;
}

/** Writes the loop over tiles of streamed rows, `base` being the first row of a tile. The next tile is loaded meanwhile. */
export function matrixLoop(frame: MatrixFrame, steps: TileSteps): string {
  const { by: { buffers }, tile, turns } = frame, { streamed, start = "", between = BARRIER } = steps;
  const two = buffers === 2, which = two ? "current" : "0u";
  const fetch = prefetch(frame, streamed), put = (to: string): string => storeTile(frame, streamed, to);
  const when = (text: string): string => `    if (live) {\n${text}    }\n`;
  const body = DECLARE_LIVE(tile) + start + (two ? "" : BARRIER + put("0u") + BARRIER + fetch) +
    when(steps.scores(which)) + BARRIER + (two ? put("1u - current") + fetch : "") +
    when(steps.weigh(which)) + between + when(steps.sums(which)) +
    (two ? "    current = 1u - current;\n" : "");
  const tiles = `  for (var base = lo; base < hi; base += ${tile}) {\n${body}  }\n`;
  const registers = streamed.rows.map((_, s) =>
    repeat(loadsOfTile(frame), (l) => `  var f${s}_${l} = vec4<u32>();\n`)
  ).join("");
  return `${registers}  var ahead = lo;\n${turns === 1 ? "" : "  var turn = 0u;\n"}${fetch}` +
    (two ? `  var current = 0u;\n${put("0u")}${fetch}${BARRIER}` : "") +
    (turns === 1 ? tiles : `  for (var round = 0u; round < ${turns}u; round += 1u) {\n${tiles}  }\n`);
}

function loadsOfTile({ tile, depth, threads }: MatrixFrame): number {
  return Math.ceil(tile * depth / OCTET / threads);
}

/** Loads the tile at `ahead` of the head `turn` into registers, and moves both to the next one. */
function prefetch(frame: MatrixFrame, { rows, load = "" }: Streamed): string {
  const { tile, turns, pass, shape, keys } = frame;
  const last = (pass === "gradKV" ? shape.time : keys) - 1;
  const next = `    ahead += ${tile};\n` + (turns === 1 ? "" : `    if (ahead >= hi) {
      ahead = lo;
      turn = min(turn + 1u, ${turns - 1}u);
    }
`);
  return eachLoad(frame, {
    rows: tile,
    text: (l) =>
      `      let i = min(u32(ahead) + r, ${last}u);\n` +
      rows.map((one, s) => `      f${s}_${l} = ${loadOf(frame, one, "i")};\n`).join(""),
  }) + load + next;
}

/** Stores the registers of {@link prefetch} in `tiles[which]`. */
function storeTile(frame: MatrixFrame, { rows, store }: Streamed, which: string): string {
  const { tile, line } = frame;
  return eachLoad(frame, {
    rows: tile,
    text: (l) =>
      rows.map((_, s) => `      tiles[${which}][${s * tile * line}u + r * ${line}u + o] = f${s}_${l};\n`)
        .join(
          "",
        ),
  }) + (store?.(which) ?? "");
}

/** Multiplies own rows with streamed rows `operand`, and stores the scores as block `block` of the subgroup. */
export function scoreProduct(
  frame: MatrixFrame,
  { own, operand, block, which }: {
    readonly own: OwnOperand;
    readonly operand: number;
    readonly block: number;
    readonly which: string;
  },
): string {
  const { by: { unit, high }, tile, line, scoreLine, height, depth } = frame;
  const { m, n, k } = unit, across = tile / n;
  const each = (text: (i: number, j: number) => string): string =>
    repeat(high, (i) => repeat(across, (j) => text(i, j)));
  const right = (j: number, c: number): string =>
    WORDS.load({ role: "right", unit, byColumns: true }, {
      array: `&tiles[${which}]`,
      offset: operand * tile * line + j * n * line + c * k / OCTET,
      stride: line,
    });
  const step = (c: number): string =>
    `      {\n${repeat(high, (i) => `      let p${i} = ${own.left(i, c)};\n`)}${
      repeat(across, (j) =>
        `      {\n      let q = ${right(j, c)};\n${
          repeat(high, (i) =>
            `      t${i}_${j} = ${WORDS.multiplyAdd(`p${i}`, "q", `t${i}_${j}`)};\n`)
        }      }\n`)
    }      }\n`;
  return `      {\n${each((i, j) => `      var t${i}_${j} = ${WORDS.type("sums", unit)}();\n`)}${
    repeat(depth / k, step)
  }${
    each((i, j) =>
      `      ${
        WORDS.store(`t${i}_${j}`, {
          array: "&scores[sid]",
          offset: (block * height + i * m) * scoreLine + j * n / 4,
          stride: scoreLine,
        })
      }\n`
    )
  }      }\n`;
}

/** Writes text for every matrix of the sums `name`: unit row i, unit column d. */
function eachSumMatrix(
  { by: { unit, high }, depth }: MatrixFrame,
  text: (i: number, d: number) => string,
): string {
  return repeat(high, (i) => repeat(depth / unit.n, (d) => text(i, d)));
}

/** Declares the sums `name`. */
export function declareMatrixSums(frame: MatrixFrame, name: string): string {
  return eachSumMatrix(frame, (i, d) => `  var ${name}${i}_${d}: ${WORDS.type("sums", frame.by.unit)};\n`);
}

/** Multiplies the weights in block `block` of the subgroup with streamed rows `operand`, and adds to the sums `name`. */
export function sumProduct(
  frame: MatrixFrame,
  { name, operand, block, which }: {
    readonly name: string;
    readonly operand: number;
    readonly block: number;
    readonly which: string;
  },
): string {
  const { by: { unit, high }, tile, line, scoreLine, height, depth } = frame, { m, n, k } = unit;
  const left = (i: number, c: number): string =>
    WORDS.load({ role: "left", unit, byColumns: false }, {
      array: "&scores[sid]",
      offset: (block * height + i * m) * scoreLine + c * k / 4,
      stride: scoreLine,
    });
  const right = (d: number, c: number): string =>
    WORDS.load({ role: "right", unit, byColumns: false }, {
      array: `&tiles[${which}]`,
      offset: operand * tile * line + c * k * line + d * n / OCTET,
      stride: line,
    });
  return repeat(
    tile / k,
    (c) =>
      `      {\n${repeat(high, (i) => `      let p${i} = ${left(i, c)};\n`)}${
        repeat(depth / n, (d) =>
          `      {\n      let q = ${right(d, c)};\n${
            repeat(
              high,
              (i) => `      ${name}${i}_${d} = ${WORDS.multiplyAdd(`p${i}`, "q", `${name}${i}_${d}`)};\n`,
            )
          }      }\n`)
      }      }\n`,
  );
}

/** Some columns of the sums of a subgroup, as they pass through its scores: the first column, and how many. */
interface Columns {
  readonly start: number;
  readonly count: number;
}

/** Stores columns of the sums `name` among the scores, runs text, and stores the next. Contains barriers. */
export function passColumns(
  frame: MatrixFrame,
  { name, text }: { readonly name: string; readonly text: (columns: Columns) => string },
): string {
  const { depth, tile } = frame;
  return repeat(Math.ceil(depth / tile), (b) => {
    const columns = { start: b * tile, count: Math.min(tile, depth - b * tile) };
    return BARRIER +
      eachSumMatrix(
        frame,
        (i, d) =>
          inColumns(frame, columns, d)
            ? `    ${WORDS.store(`${name}${i}_${d}`, sumPlace(frame, columns, { i, d }))}\n`
            : "",
      ) +
      BARRIER + text(columns);
  });
}

function inColumns({ by: { unit } }: MatrixFrame, { start, count }: Columns, d: number): boolean {
  return d * unit.n >= start && d * unit.n < start + count;
}

function sumPlace(
  { by: { unit: { m, n } }, scoreLine }: MatrixFrame,
  { start }: Columns,
  { i, d }: { readonly i: number; readonly d: number },
) {
  return { array: "&scores[sid]", offset: i * m * scoreLine + (d * n - start) / 4, stride: scoreLine };
}

/** Loads columns that {@link passColumns} stored. */
export function loadColumns(frame: MatrixFrame, name: string, columns: Columns): string {
  const matrix = { role: "sums", unit: frame.by.unit, byColumns: false } as const;
  return eachSumMatrix(
    frame,
    (i, d) =>
      inColumns(frame, columns, d)
        ? `    ${name}${i}_${d} = ${WORDS.load(matrix, sumPlace(frame, columns, { i, d }))};\n`
        : "",
  );
}

/** Writes the sums `name` to a buffer, each row multiplied by `factor`, WGSL given the row `r` of the subgroup. */
export function writeMatrixSums(
  frame: MatrixFrame,
  { name, buffer, rowOf, factor }: {
    readonly name: string;
    readonly buffer: string;
    /** WGSL for the row in the buffer of own row `i`. */
    readonly rowOf: (i: string) => string;
    readonly factor: string;
  },
): string {
  const { by: { lanes }, height, scoreLine, count, put, shape: { dim } } = frame;
  return passColumns(frame, {
    name,
    text({ start, count: columns }) {
      const across = Math.min(columns, dim - start) / 4, all = height * across;
      return repeat(Math.ceil(all / lanes), (l) => {
        const inside = (l + 1) * lanes <= all ? "" : `id < ${all}u && `;
        return `    {
      let id = lane + ${l * lanes}u;
      let r = id / ${across}u;
      let c = id % ${across}u;
      let i = first + sid * ${height}u + r;
      if (${inside}i < ${count}u) {
        let value = bitcast<vec4f>(scores[sid][r * ${scoreLine}u + c]) * ${factor};
        ${put(buffer, `${rowOf("i")} * ${dim / 4}u + ${start / 4}u + c`, "value")}
      }
    }
`;
      });
    },
  });
}
