/**
 * Tiled attention kernels for GPUs: own rows and whole tiles of streamed rows lie in workgroup memory, all of D at once.
 * They need few workgroups but much memory; staged kernels (`staged.ts`) keep only 16 steps of each product there.
 *
 * @module
 */

import { f32, repeat } from "../kernel.ts";
import { LOWEST } from "../rows.ts";
import { declareColumnDrops, dropColumns, dropKeys } from "./dropout.ts";
import { type Frame, queryRow, writtenRow } from "./frame.ts";
import {
  declareLiveKeys,
  declareLiveQueries,
  declareOwnPositions,
  declareQueryPositions,
  maskKeys,
  maskQueries,
} from "./masking.ts";
import { keyRange, queryRange } from "./ranges.ts";
import { declareBias, finishScores, scoreFactor, timesSlope } from "./scores.ts";
import { combineRows, lseOf, queryStatistics, rowMaxima, shareOf, updateSoftmax } from "./softmax.ts";
import {
  BARRIER,
  blocksOf,
  columnAt,
  declareSums,
  eachColumn,
  eachRow,
  eachTile,
  keyRows,
  LAST_ROW,
  queryRows,
  type Rows,
  writeSums,
} from "./thread_block.ts";
import {
  declareRegisters,
  loadOwnRows,
  prefetch,
  storeRows,
  storeTransposed,
  tilesOf,
} from "./tiled_memory.ts";
import { accumulateRows, multiplyScores, storeWeights, tiledMain } from "./tiled_products.ts";

/** Writes the forward kernel. */
export function tiledForward(frame: Frame): string {
  const { causal, tile, loads, count } = frame;
  const { own, shared, streamed } = tilesOf(frame);
  const queryTile = own("tq");
  const { y } = blocksOf(frame);
  const [key, value] = [keyRows(frame, "a1"), keyRows(frame, "a2")];
  const largest = combineRows(frame, { name: "top", by: (a, b) => `max(${a}, ${b})` });
  const wholes = combineRows(frame, { name: "total", by: (a, b) => `${a} + ${b}` });
  const write = (m: number, lane: string): string =>
    `      let to = ${queryRow(frame, { i: "row", count })};
${
      writeSums(frame, {
        name: "y",
        buffer: "o0",
        to: `to * ${loads}u`,
        factor: `(${shareOf(frame, "row", `whole${lane}`)})`,
        m,
      })
    }${`      if (tx == 0u) { o1[to] = ${lseOf(frame, "row", `high${lane} + log2(whole${lane})`)}; }\n`}`;
  const next = prefetch(frame, { rows: key, base: `base + ${tile}`, to: "f" });
  const body = declareLiveKeys(frame) + storeTransposed(frame, { from: "f", tile: shared }) + BARRIER +
    multiplyScores(frame, { name: "s", own: queryTile, tile: shared }) +
    prefetch(frame, { rows: value, base: "base", to: "f" }) +
    finishScores(frame, { slopes: false }) + maskKeys(frame) + rowMaxima(frame) + largest +
    updateSoftmax(frame) + dropKeys(frame, "s") + storeWeights(frame, "s") +
    storeRows(frame, { from: "f", tile: streamed }) + BARRIER +
    accumulateRows(frame, "y") + next + BARRIER;
  return tiledMain(frame, { own: [queryTile], combined: true, reversed: causal }) +
    queryRange(frame) + declareQueryPositions(frame) + declareBias(frame) +
    loadOwnRows(frame, {
      tile: queryTile,
      rows: queryRows(frame, "a0"),
      factor: scoreFactor(frame),
    }) +
    declareSums(frame, "y") +
    repeat(y.quads, (i) => `  var high${i} = vec4f(${LOWEST});\n  var total${i} = vec4f();\n`) +
    LAST_ROW + declareRegisters(frame, "f") + prefetch(frame, { rows: key, base: "lo", to: "f" }) +
    eachTile(frame, body) +
    wholes + eachRow(frame, write) + "}\n";
}

/** Writes the gradient by the queries. */
export function tiledGradQ(frame: Frame): string {
  const { causal, shape, tile, loads } = frame;
  const { own, shared, streamed } = tilesOf(frame);
  const [queryTile, gradTile] = [own("tq"), own("tg")];
  const [key, value] = [keyRows(frame, "a1"), keyRows(frame, "a2")];
  const slopes = eachColumn(
    frame,
    (j, i) =>
      `    s${j}_${i} = exp2(s${j}_${i} - lse${i}) * (dp${j}_${i} - delta${i})${
        timesSlope(frame, `c${j}_${i}`)
      };\n`,
  );
  const write = (m: number): string =>
    `      let to = ${writtenRow(frame)} * ${loads}u;
${writeSums(frame, { name: "y", buffer: "o0", to: "to", factor: f32(shape.scale), m })}`;
  const both = (base: string): string =>
    prefetch(frame, { rows: key, base, to: "f" }) + prefetch(frame, { rows: value, base, to: "e" });
  const body = declareLiveKeys(frame) + storeTransposed(frame, { from: "f", tile: shared }) +
    storeTransposed(frame, { from: "e", tile: streamed }) + BARRIER +
    multiplyScores(frame, { name: "s", own: queryTile, tile: shared }) +
    multiplyScores(frame, { name: "dp", own: gradTile, tile: streamed }) +
    prefetch(frame, { rows: key, base: "base", to: "f" }) +
    finishScores(frame, { slopes: true }) + maskKeys(frame) + dropKeys(frame, "dp") + slopes + BARRIER +
    storeWeights(frame, "s") +
    storeRows(frame, { from: "f", tile: streamed }) + BARRIER +
    accumulateRows(frame, "y") + both(`base + ${tile}`) + BARRIER;
  return tiledMain(frame, { own: [queryTile, gradTile], combined: false, reversed: causal }) +
    queryRange(frame) + declareQueryPositions(frame) + declareBias(frame) +
    loadOwnRows(frame, {
      tile: queryTile,
      rows: queryRows(frame, "a0"),
      factor: scoreFactor(frame),
    }) +
    loadOwnRows(frame, { tile: gradTile, rows: queryRows(frame, "a3") }) + queryStatistics(frame) +
    declareSums(frame, "y") + LAST_ROW + declareRegisters(frame, "f") + declareRegisters(frame, "e") +
    both("lo") +
    eachTile(frame, body) + eachRow(frame, write) + "}\n";
}

/** Writes the gradients by keys and values. */
export function tiledGradKV(
  frame: Frame,
  { outputs }: { readonly outputs: { readonly k: boolean; readonly v: boolean } },
): string {
  const { loads, shape, inputs } = frame;
  const { k, v } = outputs;
  const { own } = tilesOf(frame);
  const write = (m: number): string =>
    `      let to = ${writtenRow(frame)} * ${loads}u;\n` +
    (k ? writeSums(frame, { name: "y", buffer: "o0", to: "to", factor: f32(shape.scale), m }) : "") +
    (v ? writeSums(frame, { name: "z", buffer: k ? "o1" : "o0", to: "to", factor: "1.0f", m }) : "");
  const factor = scoreFactor(frame);
  const { first, body } = queryTile(frame, { outputs, gradient: queryRows(frame, inputs.grad) });
  return tiledMain(frame, { own: k ? KEY_TILES.map(own) : [own("tk")], combined: false, reversed: false }) +
    keyRange(frame) + declareOwnPositions(frame, "i32(first)") + declareBias(frame) +
    loadOwnRows(frame, { tile: own("tk"), rows: keyRows(frame, "a1"), factor }) +
    (k ? loadOwnRows(frame, { tile: own("tv"), rows: keyRows(frame, "a2") }) + declareSums(frame, "y") : "") +
    (v ? declareSums(frame, "z") : "") + LAST_ROW + declareRegisters(frame, "f") +
    declareRegisters(frame, "e") + first +
    eachTile(frame, body) + eachRow(frame, write) + "}\n";
}

/** Workgroup arrays of own keys and values. */
const KEY_TILES = ["tk", "tv"];

/** WGSL for one tile of queries against own keys, and for the loads before the first tile. */
function queryTile(frame: Frame, { outputs: { k, v }, gradient }: {
  readonly outputs: { readonly k: boolean; readonly v: boolean };
  readonly gradient: Rows;
}): { readonly first: string; readonly body: string } {
  const { own, shared, streamed } = tilesOf(frame);
  const query = queryRows(frame, "a0");
  const load = (rows: Rows, base: string, to: string): string => prefetch(frame, { rows, base, to });
  const along = (from: string): string => storeRows(frame, { from, tile: streamed });
  const weights = eachColumn(frame, (j, i) => `    s${j}_${i} = exp2(s${j}_${i} - lse${j});\n`);
  const slopes = eachColumn(
    frame,
    (j, i) => `    dp${j}_${i} = s${j}_${i} * (dp${j}_${i} - delta${j})${timesSlope(frame, `c${j}_${i}`)};\n`,
  );
  const both = (base: string): string => load(query, base, "f") + (k ? load(gradient, base, "e") : "");
  const next = both(`base + ${frame.tile}`);
  // Loading everything at once would need too many registers: these rows load once the weights are stored.
  const second = v ? load(gradient, "base", "e") : load(query, "base", "f");
  const body = declareLiveQueries(frame) + storeTransposed(frame, { from: "f", tile: shared }) +
    (k ? storeTransposed(frame, { from: "e", tile: streamed }) : "") + BARRIER +
    multiplyScores(frame, { name: "s", own: own("tk"), tile: shared }) +
    (k ? multiplyScores(frame, { name: "dp", own: own("tv"), tile: streamed }) : "") +
    columnStatistics(frame, { k }) + finishScores(frame, { slopes: k }) + maskQueries(frame) + weights +
    declareColumnDrops(frame) + (k ? dropColumns(frame, "dp") + slopes : "") +
    (v ? dropColumns(frame, "s") : "") +
    BARRIER +
    (v
      ? storeWeights(frame, "s") + second + along("e") + BARRIER + accumulateRows(frame, "z") +
        (k ? load(query, "base", "f") : next) + BARRIER
      : second) +
    (k ? storeWeights(frame, "dp") + along("f") + BARRIER + accumulateRows(frame, "y") + next + BARRIER : "");
  return { first: both("lo"), body };
}

/** Declares `lse{j}`, to base 2, and with `k` also `delta{j}`, of the query in column j of a thread. */
function columnStatistics(
  frame: Frame,
  { k }: { readonly k: boolean },
): string {
  const { shape: { time: count }, inputs: { lse, delta } } = frame;
  return repeat(
    4 * blocksOf(frame).x.quads,
    (j) =>
      `    let h${j} = ${queryRow(frame, { i: `u32(min(${columnAt(frame, j)}, last))`, count })};
    let lse${j} = ${lse(`h${j}`)} * ${f32(Math.LOG2E)};
${k ? `    let delta${j} = ${delta(`h${j}`)};\n` : ""}`,
  );
}
