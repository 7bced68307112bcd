/**
 * Text of tiled attention kernels: products of tiles in workgroup memory, each thread with a block in registers.
 *
 * Both products are sums of outer products: in each step a thread loads a few quads of either side and multiplies all
 * with all. Thread `tx`, `ty` has quads of own rows from `ownQuad` on, one of each so many that a subgroup
 * holds; of streamed rows or of D it has the quads `tx + j * split`.
 *
 * @module
 */

import { repeat } from "../kernel.ts";
import {
  blocksOf,
  declareTile,
  declareTurns,
  FOUR,
  type Group,
  putTurned,
  straightQuad,
  type Tile,
  tilesOf,
  turnedQuad,
} from "./tiled_memory.ts";
import { attentionMain, type Frame } from "./frame.ts";
import { LOWEST } from "../rows.ts";

/** Waits for all threads of the workgroup. */
export const BARRIER = "    workgroupBarrier();\n";

/**
 * Declares workgroup memory, opens `main` and declares the indices of a thread.
 *
 * @param frame The frame
 * @param options Arrays of own rows, whether {@link combine} is used, and whether the last blocks see most
 * @returns WGSL
 */
export function blockMain(frame: Frame, { own, combined, reversed }: {
  readonly own: readonly Tile[];
  readonly combined: boolean;
  readonly reversed: boolean;
}): string {
  const { shared, streamed } = tilesOf(frame);
  return [...own, shared, streamed].map((tile) => declareTile(frame, tile)).join("") +
    (combined ? exchange(frame) : "") + attentionMain(frame, { reversed }) + declareTurns(frame);
}

/** Steps of a sum over so many groups of four lines: those of four groups are written out, and a loop repeats them. */
export function steps(
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

/**
 * Multiplies own rows with streamed rows along D: declares `name{j}_{i}`, column j of the i-th quad of rows.
 *
 * @param frame The frame
 * @param options Name, the own rows, and the streamed rows, both across D
 * @returns WGSL
 */
export function multiply(frame: Frame, { name, own, tile }: {
  readonly name: string;
  readonly own: Tile;
  readonly tile: Tile;
}): string {
  const { x, y } = blocksOf(frame);
  const step = (group: Group, c: number): string =>
    `      let p0 = ${turnedQuad(frame, { tile: own, side: y, sub: 0, group, c })};\n` +
    repeat(
      x.quads,
      (j) => `      let q${j} = ${turnedQuad(frame, { tile, side: x, sub: j, group, c })};\n`,
    ) +
    scoreStep(frame, name);
  return zeros(frame, name) + steps(frame, { groups: frame.loads, step });
}

/** Declares a block of zeros. */
export function zeros(frame: Frame, name: string): string {
  return eachColumn(frame, (j, i) => `    var ${name}${j}_${i} = vec4f();\n`);
}

/** Adds the products of quads `p{i}` of own rows with those `q{j}` of streamed rows to the block `name`. */
export function scoreStep(frame: Frame, name: string): string {
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

/** Puts a block `name{j}_{i}` where {@link accumulate} reads weights. */
export function putWeights(frame: Frame, name: string): string {
  const { x, y } = blocksOf(frame);
  return repeat(x.quads, (j) =>
    putTurned(frame, {
      tile: tilesOf(frame).shared,
      side: y,
      group: `tx + ${j * x.span}u`,
      quad: "ty + 0u",
      values: (c) => `${name}${4 * j + c}_0`,
    }));
}

/** Declares sums `name{m}_{w}`: row m of a thread, and the w-th of its quads of D. */
export function sums(frame: Frame, name: string): string {
  return eachSum(frame, (m, w) => `  var ${name}${m}_${w} = vec4f();\n`);
}

/** Writes text for every own row of a thread and every quad of D. */
export function eachSum(frame: Frame, text: (m: number, w: number) => string): string {
  return repeat(frame.each, (m) => repeat(blocksOf(frame).wide, (w) => text(m, w)));
}

/** Adds the streamed rows, each times its weight, to the sums `name`. */
export function accumulate(frame: Frame, name: string): string {
  const { y, wide } = blocksOf(frame);
  const { shared, streamed } = tilesOf(frame);
  const step = (group: Group, c: number): string =>
    `      let p0 = ${turnedQuad(frame, { tile: shared, side: y, sub: 0, group, c })};\n` +
    repeat(
      wide,
      (w) => `      let q${w} = ${straightQuad(frame, { tile: streamed, sub: w, group, c })};\n`,
    ) +
    sumStep(frame, name);
  return steps(frame, { groups: frame.tile / FOUR, step });
}

/** Adds quads `q{w}` of D, each times the weight of an own row from `p{i}`, to the sums `name`. */
export function sumStep(frame: Frame, name: string): string {
  return eachSum(
    frame,
    (m, w) => `      ${name}${m}_${w} = fma(vec4f(p${m >> 2}.${"xyzw"[m & 3]}), q${w}, ${name}${m}_${w});\n`,
  );
}

/** Declares what {@link combine} exchanges where subgroups do not. */
export function exchange(frame: Frame): string {
  const { x, y } = blocksOf(frame);
  return frame.subgroups
    ? ""
    : `var<workgroup> tc: array<array<array<vec4f, ${y.span}>, ${y.quads}>, ${x.span}>;\n`;
}

/**
 * Combines `name{i}` over the threads that share rows: declares `whole{i}`. All threads have passed what is before it.
 *
 * @param frame The frame
 * @param options The vec4f of a quad of rows, and a WGSL call or sum of two terms
 * @returns WGSL with a barrier
 */
export function combine(
  frame: Frame,
  { name, by }: { readonly name: string; readonly by: (a: string, b: string) => string },
): string {
  const { x, y } = blocksOf(frame);
  const masks = [1, 2, 4, 8].filter((mask) => mask < x.span);
  const shuffled = (i: number): string => {
    const last = `${name}${i}`;
    const terms = masks.map((mask) => [`${name}${i}x${mask}`, mask] as const);
    const one = (from: string, [to, mask]: readonly [string, number]): string =>
      `    let ${to} = ${by(from, `subgroupShuffleXor(${from}, ${mask}u)`)};\n`;
    return terms.map((term, n) => one(n === 0 ? last : terms[n - 1][0], term)).join("") +
      `    let whole${i} = ${terms[terms.length - 1][0]};\n`;
  };
  if (frame.subgroups) return repeat(y.quads, shuffled) + BARRIER;
  const all = (i: number): string =>
    Array.from({ length: x.span }, (_, t) => `tc[${t}][${i}][ty]`).reduce(by);
  return repeat(y.quads, (i) => `    tc[tx][${i}][ty] = ${name}${i};\n`) + BARRIER +
    repeat(y.quads, (i) => `    let whole${i} = ${all(i)};\n`);
}

/**
 * Masks the block `name` where a tile is not visible as a whole: masked elements become {@link LOWEST}.
 *
 * @param frame The frame
 * @param options Name, WGSL that is true for tiles with hidden pairs, and for which rows of quad i see column `j` (i32)
 * @returns WGSL
 */
export function mask(frame: Frame, { name, partly, visible }: {
  readonly name: string;
  readonly partly: string;
  readonly visible: (i: number) => string;
}): string {
  const { x, y } = blocksOf(frame);
  const hide = (j: number, i: number): string =>
    `        ${name}${j}_${i} = select(vec4f(${LOWEST}), ${name}${j}_${i}, ${visible(i)});\n`;
  const columns = repeat(
    4 * x.quads,
    (j) => `      { let j = ${columnAt(frame, j)};\n${repeat(y.quads, (i) => hide(j, i))}      }\n`,
  );
  return `    if (${partly}) {\n${columns}    }\n`;
}

/** WGSL (i32) for the streamed row that is column j of a thread. */
export function columnAt({ split }: Frame, j: number): string {
  return `base + 4 * i32(tx) + ${4 * split * (j >> 2) + (j & 3)}`;
}

/** Declares `at{i}` (vec4i), the own rows of quad i, counted from `start`. */
export function ownPositions(frame: Frame, start: string): string {
  const { y, high } = blocksOf(frame);
  return repeat(
    y.quads,
    (i) => `  let at${i} = vec4i(${start} + 4 * i32(ownQuad) + ${4 * i * high}) + vec4i(0, 1, 2, 3);\n`,
  );
}

/** Declares `live`, whether a row of the subgroup sees a row of the tile, where one may see none; `seen` is WGSL. */
export function declareLive(frame: Frame, seen: (first: string, rows: number) => string): string {
  const { y, high, skips } = blocksOf(frame);
  const rows = 4 * high * y.quads;
  return skips ? `    let live = ${seen(`i32(first + ty / ${high}u * ${rows}u)`, rows)};\n` : "";
}

/**
 * Visits the own rows of a thread that exist.
 *
 * @param frame The frame
 * @param body WGSL given the number m of a row, and lane and quad of it (`"0.x"`, ...); it sees `row`
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

/** Writes the sums `name` of row m to a buffer, times a factor; `to` is its first load. */
export function writeSums(frame: Frame, { name, buffer, to, factor, m }: {
  readonly name: string;
  readonly buffer: string;
  readonly to: string;
  readonly factor: string;
  readonly m: number;
}): string {
  return repeat(
    blocksOf(frame).wide,
    (w) => `      ${frame.put(buffer, `${to} + tx + ${w * frame.split}u`, `${name}${m}_${w} * ${factor}`)}\n`,
  );
}
