/**
 * Text of tiled attention kernels: own rows lie in workgroup memory, tiles of streamed rows pass through it, and each
 * thread holds a block of a product in registers.
 *
 * All tiles hold quads along D with neighbouring rows side by side, `[D / 4][row]`, so one layout serves products
 * along D and sums over rows. Arrays are nested so that a thread chooses an index once and text all others: checks on
 * indices then cost once, not with each load. A warp of 32 covers `32 / split` rows by `split` columns, and eight
 * threads that load together `32 / split` rows by `turns` columns; streamed rows and weights are turned by the low bits
 * of their quad or column, so that these eight meet different banks.
 *
 * Names: `ty` and `tx` are the row and column of a thread; it owns rows `ty + i * down` and columns `tx + j * split`.
 *
 * @module
 */

import { repeat } from "./kernel.ts";
import { attentionMain, type Frame } from "./attention_tiles.ts";
import { LOWEST } from "./rows.ts";

/** Multiply-adds of a loop body: larger ones run from a colder instruction cache. */
const BODY = 512;

/** What follows from the tiling of a frame. */
export interface Blocks {
  /** Threads along the rows. */
  readonly down: number;
  /** Quads of rows of a thread. */
  readonly quads: number;
  /** Streamed rows of a thread, in a product along D. */
  readonly columns: number;
  /** Quads of D of a thread, in a sum over streamed rows. */
  readonly wide: number;
  /** Columns among eight neighbouring threads. */
  readonly turns: number;
  /** Columns of a thread in one iteration of a sum over streamed rows. */
  readonly unroll: number;
  /** Rows between those that a thread loads. */
  readonly stride: number;
}

/**
 * Resolves the blocks of a frame.
 *
 * @param frame The frame
 * @returns The blocks
 */
export function blocksOf({ rows, each, tile, split, loads, threads }: Frame): Blocks {
  const columns = tile / split, wide = loads / split;
  const unroll = [4, 2].find((n) => columns % n === 0 && n * split * each * wide * 4 <= BODY) ?? 1;
  return { down: rows / each, quads: each / 4, columns, wide, turns: split / 4, unroll, stride: threads / 4 };
}

/**
 * Declares workgroup memory, opens `main` and declares the indices of a thread.
 *
 * @param frame The frame
 * @param options Names of tiles of own rows, whether {@link exchange} is used, and whether the last blocks see most
 * @returns WGSL
 */
export function blockMain(
  frame: Frame,
  { own, exchanged, reversed }: {
    readonly own: readonly string[];
    readonly exchanged: boolean;
    readonly reversed: boolean;
  },
): string {
  const { rows, each, split, loads } = frame;
  const { down, quads, columns, wide, turns, unroll } = blocksOf(frame);
  const lanes = 32 / split;
  const memory = (name: string, sizes: readonly number[]): string =>
    `var<workgroup> ${name}: ${sizes.reduceRight((type, size) => `array<${type}, ${size}>`, "vec4f")};\n`;
  const turned = (v: string): string => turns === 1 ? "ty" : `(ty ^ ((${v} * ${lanes}u) % ${down}u))`;
  return own.map((name) => memory(name, [loads / 4, 4, each, down])).join("") +
    memory("ts", [loads / 4, 4, columns / unroll, unroll, split / turns, turns]) +
    memory("tp", [columns / unroll, unroll, split, rows / 4]) +
    (exchanged ? memory("tx_rows", [split, rows / 4]) : "") +
    attentionMain(frame, { reversed }) +
    `  let ty = (lid / 32u) * ${lanes}u + lid % ${lanes}u;
  let tx = (lid % 32u) / ${lanes}u;
  let txHigh = tx / ${turns}u;
${repeat(turns, (v) => `  let txLow${v} = (tx % ${turns}u) ^ ${v}u;\n`)}${
      repeat(quads, (r) =>
        repeat(turns, (v) => `  let row${r}_${v} = ${turned(`${v}u`)} + ${r * down}u;\n`) +
        `  let put${r} = ${turned(`(tx % ${turns}u)`)} + ${r * down}u;\n`)
    }${repeat(wide, (c) => `  let deep${c} = tx / 4u + ${c * split / 4}u;\n`)}  let quad = tx % 4u;
  let loadQuad = (lid / 8u) % 4u;
  let loadRow = (lid / 32u) * 8u + lid % 8u;
`;
}

/** A buffer with rows of D elements, and WGSL for the first load of a row given its index. */
export interface Rows {
  readonly buffer: string;
  readonly address: (row: string) => string;
}

/**
 * Loads the own rows of the block into a tile; rows past the end repeat the last one.
 *
 * @param frame The frame
 * @param options The tile, the rows, and WGSL of a factor
 * @returns WGSL
 */
export function loadOwn(
  frame: Frame,
  { tile, rows: { buffer, address }, factor }: {
    readonly tile: string;
    readonly rows: Rows;
    readonly factor?: string;
  },
): string {
  const { rows, count, loads } = frame;
  const { down, stride } = blocksOf(frame);
  const times = factor === undefined ? "" : ` * ${factor}`;
  return repeat(rows / stride, (m) =>
    `  { let row = loadRow + ${m * stride}u;
    let source = ${address(`min(first + row, ${count - 1}u)`)} + loadQuad;
${
      repeat(
        loads / 4,
        (c) =>
          `    ${tile}[${c}][loadQuad][row / ${down}u][row % ${down}u] = ${buffer}[source + ${
            4 * c
          }u]${times};\n`,
      )
    }  }\n`);
}

/** Declares the registers of {@link fetch}, and `last`, the last row to read. */
export function fetched(frame: Frame): string {
  const { stride } = blocksOf(frame);
  return "  let last = max(hi - 1, 0);\n" +
    repeat(frame.tile / stride, (m) => repeat(frame.loads / 4, (c) => `  var f${m}_${c} = vec4f();\n`));
}

/**
 * Loads a tile of streamed rows into registers.
 *
 * @param frame The frame
 * @param options The rows, and WGSL for the first row of the tile (i32)
 * @returns WGSL
 */
export function fetch(
  frame: Frame,
  { rows: { buffer, address }, base }: { readonly rows: Rows; readonly base: string },
): string {
  const { stride } = blocksOf(frame);
  return repeat(
    frame.tile / stride,
    (m) =>
      `    { let source = ${address(`u32(min(${base} + i32(loadRow) + ${m * stride}, last))`)} + loadQuad;
${repeat(frame.loads / 4, (c) => `      f${m}_${c} = ${buffer}[source + ${4 * c}u];\n`)}    }\n`,
  );
}

/** Puts the registers of {@link fetch} into the tile `ts`. */
export function keep(frame: Frame): string {
  const { tile, loads, split } = frame;
  const { stride, unroll, turns } = blocksOf(frame);
  const place = `[row / ${split * unroll}u][(row / ${split}u) % ${unroll}u][(row % ${split}u) / ${turns}u]`;
  return repeat(
    tile / stride,
    (m) =>
      `    { let row = loadRow + ${m * stride}u; let low = (row ^ loadQuad) % ${turns}u;
${repeat(loads / 4, (c) => `      ts[${c}][loadQuad]${place}[low] = f${m}_${c};\n`)}    }\n`,
  );
}

/** Orders a fetch and the product that does not need it: `ahead` keeps the loads in flight meanwhile. */
export function meanwhile({ ahead }: Frame, load: string, product: string): string {
  return ahead ? load + product : product + load;
}

/**
 * Multiplies own rows with streamed rows along D: declares `name{j}_{r}`, column j of the rows of quad r.
 *
 * @param frame The frame
 * @param options Name and the tile of own rows
 * @returns WGSL
 */
export function multiply(
  frame: Frame,
  { name, own }: { readonly name: string; readonly own: string },
): string {
  const { each, loads } = frame;
  const { quads, columns, turns, unroll } = blocksOf(frame);
  const four = (r: number, x: string): string =>
    `vec4f(${[0, 1, 2, 3].map((i) => `own${4 * r + i}.${x}`).join(", ")})`;
  const column = (j: number, q: number): string =>
    `let b = ts[c][${q}][${Math.floor(j / unroll)}][${j % unroll}][txHigh][txLow${q % turns}];` +
    [..."xyzw"].map((x) =>
      repeat(quads, (r) => ` ${name}${j}_${r} = fma(a${x}${r}, vec4f(b.${x}), ${name}${j}_${r});`)
    ).join("");
  const step = (q: number): string =>
    `      {
${repeat(each, (i) => `      let own${i} = ${own}[c][${q}][${i}][ty];\n`)}${
      repeat(quads, (r) => [..."xyzw"].map((x) => `      let a${x}${r} = ${four(r, x)};\n`).join(""))
    }${repeat(columns, (j) => `      { ${column(j, q)} }\n`)}      }\n`;
  return repeat(columns, (j) => repeat(quads, (r) => `    var ${name}${j}_${r} = vec4f();\n`)) +
    `    for (var c = 0u; c < ${loads / 4}u; c += 1u) {\n${repeat(4, step)}    }\n`;
}

/** Puts a block `name{j}_{r}` into the tile `tp`, whose columns {@link accumulate} reads as weights. */
export function putWeights(frame: Frame, name: string): string {
  const { quads, columns, unroll } = blocksOf(frame);
  return repeat(columns, (j) =>
    repeat(
      quads,
      (r) => `    tp[${Math.floor(j / unroll)}][${j % unroll}][tx][put${r}] = ${name}${j}_${r};\n`,
    ));
}

/** Declares sums `name{d}_{r}`: element d of a thread, of the rows of quad r. */
export function sums(frame: Frame, name: string): string {
  const { quads, wide } = blocksOf(frame);
  return repeat(4 * wide, (d) => repeat(quads, (r) => `  var ${name}${d}_${r} = vec4f();\n`));
}

/** Adds the streamed rows, each times its weight in `tp`, to the sums `name`. */
export function accumulate(frame: Frame, name: string): string {
  const { split } = frame;
  const { quads, columns, wide, turns, unroll } = blocksOf(frame);
  const add = (c: number): string =>
    [..."xyzw"].map((x, i) =>
      repeat(quads, (r) => ` ${name}${4 * c + i}_${r} = fma(p${r}, vec4f(b.${x}), ${name}${4 * c + i}_${r});`)
    ).join("");
  const column = (u: number, t: number): string =>
    `      {${repeat(quads, (r) => ` let p${r} = tp[j][${u}][${t}][row${r}_${t % turns}];`)}
${
      repeat(wide, (c) =>
        `      { let b = ts[deep${c}][quad][j][${u}][${Math.floor(t / turns)}][txLow${t % turns}];${
          add(c)
        } }\n`)
    }      }\n`;
  return `    for (var j = 0u; j < ${columns / unroll}u; j += 1u) {
${repeat(unroll, (u) => repeat(split, (t) => column(u, t)))}    }
`;
}

/**
 * Combines `name{r}` over the threads that share rows; a barrier must lie between the two texts.
 *
 * @param frame The frame
 * @param options The vec4f of a quad of rows, and a WGSL call or sum of two terms
 * @returns WGSL that puts, and WGSL that declares `whole{r}`
 */
export function exchange(
  frame: Frame,
  { name, by }: { readonly name: string; readonly by: (a: string, b: string) => string },
): readonly [put: string, get: string] {
  const { quads } = blocksOf(frame);
  const all = (r: number): string =>
    Array.from({ length: frame.split }, (_, t) => `tx_rows[${t}][row${r}_0]`).reduce(by);
  return [
    repeat(quads, (r) => `    tx_rows[tx][row${r}_0] = ${name}${r};\n`),
    repeat(quads, (r) => `    let whole${r} = ${all(r)};\n`),
  ];
}

/**
 * Masks the block `name` where a tile is not visible as a whole: masked elements become {@link LOWEST}.
 *
 * @param frame The frame
 * @param options Name, WGSL that is true for tiles with hidden pairs, and for which rows of quad r see column `j` (i32)
 * @returns WGSL
 */
export function mask(
  frame: Frame,
  { name, partly, visible }: {
    readonly name: string;
    readonly partly: string;
    readonly visible: (r: number) => string;
  },
): string {
  const { quads, columns } = blocksOf(frame);
  return `    if (${partly}) {
${
    repeat(columns, (j) =>
      `      { let j = base + i32(tx) + ${j * frame.split};\n${
        repeat(quads, (r) =>
          `        ${name}${j}_${r} = select(vec4f(${LOWEST}), ${name}${j}_${r}, ${visible(r)});\n`)
      }      }\n`)
  }    }
`;
}

/** Declares `at{r}` (vec4i), the own rows of quad r, counted from `start`. */
export function ownPositions(frame: Frame, start: string): string {
  const { down, quads } = blocksOf(frame);
  const steps = `vec4i(0, ${down}, ${2 * down}, ${3 * down})`;
  return repeat(quads, (r) => `  let at${r} = vec4i(${start} + i32(ty) + ${4 * r * down}) + ${steps};\n`);
}

/**
 * Visits the own rows of a thread that exist.
 *
 * @param frame The frame
 * @param body WGSL given the lane of a quad of rows (`"x"`, ...) and the quad; it sees `row`
 * @returns WGSL
 */
export function eachRow(frame: Frame, body: (lane: string, r: number) => string): string {
  const { down } = blocksOf(frame);
  return repeat(frame.each, (i) =>
    `  { let row = first + ty + ${i * down}u;
    if (row < ${frame.count}u) {
${body("xyzw"[i % 4], Math.floor(i / 4))}    }
  }
`);
}

/** Writes the sums `name` of one row to a buffer, times a factor; `to` is its first load. */
export function writeSums(
  frame: Frame,
  { name, buffer, to, factor, lane, r }: {
    readonly name: string;
    readonly buffer: string;
    readonly to: string;
    readonly factor: string;
    readonly lane: string;
    readonly r: number;
  },
): string {
  const quad = (c: number): string => [0, 1, 2, 3].map((i) => `${name}${4 * c + i}_${r}.${lane}`).join(", ");
  return repeat(
    blocksOf(frame).wide,
    (c) => `      ${buffer}[${to} + tx + ${c * frame.split}u] = vec4f(${quad(c)}) * ${factor};\n`,
  );
}
