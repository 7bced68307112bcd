/**
 * Attention kernels for GPUs, by tiles in workgroup memory and blocks in registers.
 *
 * @module
 */

import { f32, repeat } from "../kernel.ts";
import {
  accumulate,
  BARRIER,
  blockMain,
  columnAt,
  combine,
  declareLive,
  eachColumn,
  eachRow,
  eachSum,
  mask,
  multiply,
  ownPositions,
  putWeights,
  sums,
  writeSums,
} from "./tiled_products.ts";
import {
  blocksOf,
  fetch,
  fetched,
  keepAcross,
  keepAlong,
  loadOwn,
  type Rows,
  tilesOf,
} from "./tiled_memory.ts";
import { type Frame, keyAddress, keyRange, queryRange, queryRow, writtenRow } from "./frame.ts";
import { LOWEST } from "../rows.ts";

/** WGSL of workgroup memory and `main` of the forward kernel; `offset` is WGSL for the position of query 0. */
export function tiledForward(frame: Frame, { offset }: { readonly offset: string }): string {
  const { causal, shape, tile, loads, count } = frame;
  const { own, shared, streamed } = tilesOf(frame);
  const queryTile = own("tq");
  const { y } = blocksOf(frame);
  const [key, value] = [keyRows(frame, "a1"), keyRows(frame, "a2")];
  const largest = combine(frame, { name: "top", by: (a, b) => `max(${a}, ${b})` });
  const wholes = combine(frame, { name: "total", by: (a, b) => `${a} + ${b}` });
  const write = (m: number, lane: string): string =>
    `      let to = ${queryRow(frame, { i: "row", count })};
${
      writeSums(frame, { name: "y", buffer: "o0", to: `to * ${loads}u`, factor: `(1.0f / whole${lane})`, m })
    }${`      if (tx == 0u) { o1[to] = (high${lane} + log2(whole${lane})) * ${f32(Math.LN2)}; }\n`}`;
  const next = fetch(frame, { rows: key, base: `base + ${tile}`, to: "f" });
  const body = liveKeys(frame) + keepAcross(frame, { from: "f", tile: shared }) + BARRIER +
    multiply(frame, { name: "s", own: queryTile, tile: shared }) +
    fetch(frame, { rows: value, base: "base", to: "f" }) +
    hideKeys(frame) + tops(frame) + largest + soften(frame) + putWeights(frame, "s") +
    keepAlong(frame, { from: "f", tile: streamed }) + BARRIER +
    accumulate(frame, "y") + next + BARRIER;
  return blockMain(frame, { own: [queryTile], combined: true, reversed: causal }) +
    queryRange(frame, offset) + queryPositions(frame) +
    loadOwn(frame, { tile: queryTile, rows: queries(frame, "a0"), factor: f32(shape.scale * Math.LOG2E) }) +
    sums(frame, "y") +
    repeat(y.quads, (i) => `  var high${i} = vec4f(${LOWEST});\n  var total${i} = vec4f();\n`) +
    LAST + fetched(frame, "f") + fetch(frame, { rows: key, base: "lo", to: "f" }) + overTiles(frame, body) +
    wholes + eachRow(frame, write) + "}\n";
}

/** Declares `top{i}`, the largest of a thread's scores in each row. */
export function tops(frame: Frame): string {
  const { x, y } = blocksOf(frame);
  const scores = (i: number): string[] => Array.from({ length: 4 * x.quads }, (_, j) => `s${j}_${i}`);
  return repeat(
    y.quads,
    (i) => `    let top${i} = ${scores(i).reduce((a, b) => `max(${a}, ${b})`)};\n`,
  );
}

/** Turns scores into weights below the maxima `whole{i}`, and fades what was summed below older ones. */
export function soften(frame: Frame): string {
  const { x, y } = blocksOf(frame);
  const row = (i: number): string =>
    `    let next${i} = max(high${i}, whole${i});
    let fade${i} = exp2(high${i} - next${i});
    high${i} = next${i};
    total${i} *= fade${i};
${
      repeat(
        4 * x.quads,
        (j) => `    s${j}_${i} = exp2(s${j}_${i} - next${i});\n    total${i} += s${j}_${i};\n`,
      )
    }`;
  return repeat(y.quads, row) +
    eachSum(frame, (m, w) => `    y${m}_${w} *= fade${m >> 2}.${"xyzw"[m & 3]};\n`);
}

/** WGSL of workgroup memory and `main` of the gradient by the queries. */
export function tiledGradQ(frame: Frame): string {
  const { causal, shape, tile, keys, loads } = frame;
  const { own, shared, streamed } = tilesOf(frame);
  const [queryTile, gradTile] = [own("tq"), own("tg")];
  const [key, value] = [keyRows(frame, "a1"), keyRows(frame, "a2")];
  const slopes = eachColumn(
    frame,
    (j, i) => `    s${j}_${i} = exp2(s${j}_${i} - lse${i}) * (dp${j}_${i} - delta${i});\n`,
  );
  const write = (m: number): string =>
    `      let to = ${writtenRow(frame)} * ${loads}u;
${writeSums(frame, { name: "y", buffer: "o0", to: "to", factor: f32(shape.scale), m })}`;
  const both = (base: string): string =>
    fetch(frame, { rows: key, base, to: "f" }) + fetch(frame, { rows: value, base, to: "e" });
  const body = liveKeys(frame) + keepAcross(frame, { from: "f", tile: shared }) +
    keepAcross(frame, { from: "e", tile: streamed }) + BARRIER +
    multiply(frame, { name: "s", own: queryTile, tile: shared }) +
    multiply(frame, { name: "dp", own: gradTile, tile: streamed }) +
    fetch(frame, { rows: key, base: "base", to: "f" }) +
    hideKeys(frame) + slopes + BARRIER + putWeights(frame, "s") +
    keepAlong(frame, { from: "f", tile: streamed }) + BARRIER +
    accumulate(frame, "y") + both(`base + ${tile}`) + BARRIER;
  return blockMain(frame, { own: [queryTile, gradTile], combined: false, reversed: causal }) +
    queryRange(frame, `${keys - shape.time}`) + queryPositions(frame) +
    loadOwn(frame, { tile: queryTile, rows: queries(frame, "a0"), factor: f32(shape.scale * Math.LOG2E) }) +
    loadOwn(frame, { tile: gradTile, rows: queries(frame, "a3") }) + queryStatistics(frame) +
    sums(frame, "y") + LAST + fetched(frame, "f") + fetched(frame, "e") + both("lo") +
    overTiles(frame, body) + eachRow(frame, write) + "}\n";
}

/** Declares `lse{i}`, to base 2, and `delta{i}` of own queries. */
export function queryStatistics(frame: Frame): string {
  const row = (i: number, lane: string): string =>
    queryRow(frame, { i: `min(u32(at${i}.${lane} - offset), ${frame.count - 1}u)`, count: frame.count });
  const four = (i: number, buffer: string): string =>
    `vec4f(${[..."xyzw"].map((lane) => `${buffer}[${row(i, lane)}]`).join(", ")})`;
  return repeat(
    blocksOf(frame).y.quads,
    (i) => `  let lse${i} = ${four(i, "a4")} * ${f32(Math.LOG2E)};\n  let delta${i} = ${four(i, "a5")};\n`,
  );
}

/** WGSL of workgroup memory and `main` of the gradients by keys and values; `grad` and `lse` are buffers. */
export function tiledGradKV(
  frame: Frame,
  { outputs, grad, lse }: {
    readonly outputs: { readonly k: boolean; readonly v: boolean };
    readonly grad: string;
    readonly lse: string;
  },
): string {
  const { loads, shape } = frame;
  const { k, v } = outputs;
  const { own } = tilesOf(frame);
  const write = (m: number): string =>
    `      let to = ${writtenRow(frame)} * ${loads}u;\n` +
    (k ? writeSums(frame, { name: "y", buffer: "o0", to: "to", factor: f32(shape.scale), m }) : "") +
    (v ? writeSums(frame, { name: "z", buffer: k ? "o1" : "o0", to: "to", factor: "1.0f", m }) : "");
  const factor = f32(shape.scale * Math.LOG2E);
  const { first, body } = queryTile(frame, { outputs, lse, gradient: queries(frame, grad) });
  return blockMain(frame, { own: k ? KEY_TILES.map(own) : [own("tk")], combined: false, reversed: false }) +
    keyRange(frame) + ownPositions(frame, "i32(first)") +
    loadOwn(frame, { tile: own("tk"), rows: keyRows(frame, "a1"), factor }) +
    (k ? loadOwn(frame, { tile: own("tv"), rows: keyRows(frame, "a2") }) + sums(frame, "y") : "") +
    (v ? sums(frame, "z") : "") + LAST + fetched(frame, "f") + fetched(frame, "e") + first +
    overTiles(frame, body) + eachRow(frame, write) + "}\n";
}

/** Arrays of own keys and values. */
const KEY_TILES = ["tk", "tv"];

/** WGSL of one tile of queries for own keys, and of the loads before the first. */
function queryTile(frame: Frame, { outputs: { k, v }, gradient, lse }: {
  readonly outputs: { readonly k: boolean; readonly v: boolean };
  readonly gradient: Rows;
  readonly lse: string;
}): { readonly first: string; readonly body: string } {
  const { own, shared, streamed } = tilesOf(frame);
  const query = queries(frame, "a0");
  const load = (rows: Rows, base: string, to: string): string => fetch(frame, { rows, base, to });
  const along = (from: string): string => keepAlong(frame, { from, tile: streamed });
  const weights = eachColumn(frame, (j, i) => `    s${j}_${i} = exp2(s${j}_${i} - lse${j});\n`);
  const slopes = eachColumn(frame, (j, i) => `    dp${j}_${i} = s${j}_${i} * (dp${j}_${i} - delta${j});\n`);
  const both = (base: string): string => load(query, base, "f") + (k ? load(gradient, base, "e") : "");
  const next = both(`base + ${frame.tile}`);
  // All of these registers at once are too many: rows follow when the weights have left theirs.
  const second = v ? load(gradient, "base", "e") : load(query, "base", "f");
  const body = liveQueries(frame) + keepAcross(frame, { from: "f", tile: shared }) +
    (k ? keepAcross(frame, { from: "e", tile: streamed }) : "") + BARRIER +
    multiply(frame, { name: "s", own: own("tk"), tile: shared }) +
    (k ? multiply(frame, { name: "dp", own: own("tv"), tile: streamed }) : "") +
    columnStatistics(frame, { lse, k }) + hideQueries(frame) + weights + (k ? slopes : "") + BARRIER +
    (v
      ? putWeights(frame, "s") + second + along("e") + BARRIER + accumulate(frame, "z") +
        (k ? load(query, "base", "f") : next) + BARRIER
      : second) +
    (k ? putWeights(frame, "dp") + along("f") + BARRIER + accumulate(frame, "y") + next + BARRIER : "");
  return { first: both("lo"), body };
}

/** Declares `lse{j}`, to base 2, and `delta{j}` if wanted, of the query that is column j of a thread. */
function columnStatistics(
  frame: Frame,
  { lse, k }: { readonly lse: string; readonly k: boolean },
): string {
  const count = frame.shape.time;
  return repeat(
    4 * blocksOf(frame).x.quads,
    (j) =>
      `    let h${j} = ${queryRow(frame, { i: `u32(min(${columnAt(frame, j)}, last))`, count })};
    let lse${j} = ${lse}[h${j}] * ${f32(Math.LOG2E)};
${k ? `    let delta${j} = a5[h${j}];\n` : ""}`,
  );
}

/** Declares `last`, the last streamed row to read. */
export const LAST = "  let last = max(hi - 1, 0);\n";

/** Rows of a buffer laid out as the keys. */
export function keyRows(frame: Frame, buffer: string): Rows {
  return { buffer, address: (j) => keyAddress(frame, j), stride: frame.shape.kvHeads * frame.loads };
}

/** Rows of a buffer laid out as the queries. */
export function queries(frame: Frame, buffer: string): Rows {
  const { loads, shape } = frame;
  const address = (i: string): string => `${queryRow(frame, { i, count: shape.time })} * ${loads}u`;
  return { buffer, address, stride: shape.heads * loads };
}

/** Visits the tiles of streamed rows. */
export function overTiles({ tile }: Frame, body: string): string {
  return `  for (var base = lo; base < hi; base += ${tile}) {\n${body}  }\n`;
}

/** Declares the positions of own queries, and the first key that not all of them see. */
export function queryPositions(frame: Frame): string {
  return `${ownPositions(frame, "i32(first) + offset")}  let seen = ${
    frame.causal ? "min(hi, i32(first) + offset + 1)" : "hi"
  };
`;
}

/** Declares `live` of a tile of keys: the last query of the subgroup is not before it. */
export function liveKeys(frame: Frame): string {
  return declareLive(frame, (first, rows) => `base < ${first} + ${rows} + offset`);
}

/** Declares `live` of a tile of queries: its last is not before the first key of the subgroup. */
export function liveQueries(frame: Frame): string {
  return declareLive(frame, (first) => `base + ${frame.tile - 1} + offset >= ${first}`);
}

/** Masks the scores of keys that own queries do not see. */
export function hideKeys(frame: Frame): string {
  const { causal, window, rows, tile } = frame;
  const partly = [
    `base + ${tile} > seen`,
    ...(window === null ? [] : [`base < i32(first) + offset + ${rows - window}`]),
  ];
  const visible = (i: number): string =>
    [
      causal ? `(vec4i(j) <= min(at${i}, vec4i(hi - 1)))` : "(vec4i(j) < vec4i(hi))",
      ...(window === null ? [] : [`(vec4i(j) > at${i} - ${window})`]),
    ].join(" & ");
  return mask(frame, { name: "s", partly: partly.join(" || "), visible });
}

/** Masks the scores of queries that do not see own keys. */
export function hideQueries(frame: Frame): string {
  const { causal, window, rows, tile } = frame;
  const partly = [
    `base + ${tile} > hi`,
    ...(causal ? [`i32(first) + ${rows - 1} > base + offset`] : []),
    ...(window === null ? [] : [`i32(first) <= base + offset + ${tile - 1 - window}`]),
  ];
  const visible = (i: number): string =>
    [
      "(vec4i(j) < vec4i(hi))",
      ...(causal ? [`(vec4i(j + offset) >= at${i})`] : []),
      ...(window === null ? [] : [`(vec4i(j + offset) < at${i} + ${window})`]),
    ].join(" & ");
  return mask(frame, { name: "s", partly: partly.join(" || "), visible });
}
