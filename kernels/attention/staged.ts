/**
 * Staged attention kernels for GPUs: both operands of each product pass through workgroup memory 16 steps of the sum at a
 * time, as in a matrix product; tiled kernels (`tiled.ts`) hold whole tiles. Fastest where there are many workgroups.
 *
 * @module
 */

import { f32, repeat } from "../kernel.ts";
import { LOWEST } from "../rows.ts";
import { dropKeys } from "./dropout.ts";
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
import {
  combineRows,
  exchangeMemory,
  lseOf,
  queryStatistics,
  rowMaxima,
  shareOf,
  updateSoftmax,
} from "./softmax.ts";
import {
  columnValues,
  eachColumnPlace,
  nextTile,
  prefetchFirst,
  scoreStage,
  stagedMain,
  stageLoop,
  sumStage,
  weightLines,
  weightStages,
} from "./staged_products.ts";
import { declareLines, STAGE_DEPTH, streamedTileRows } from "./staged_memory.ts";
import {
  blocksOf,
  declareScores,
  declareSums,
  eachColumn,
  eachRow,
  eachTile,
  FOUR,
  keyRows,
  queryRows,
  writeSums,
} from "./thread_block.ts";

/** Writes the forward kernel. */
export function stagedForward(frame: Frame): string {
  const { causal, loads, count } = frame;
  const { y } = blocksOf(frame);
  const largest = combineRows(frame, { name: "top", by: (a, b) => `max(${a}, ${b})` });
  const wholes = combineRows(frame, { name: "total", by: (a, b) => `${a} + ${b}` });
  const factor = scoreFactor(frame);
  const [key, value] = ["a1", "a2"].map((buffer) =>
    streamedTileRows(keyRows(frame, buffer), wholeKeys(frame))
  );
  const scores = scoreStage(frame, { name: "s", own: { rows: queryRows(frame, "a0"), factor }, other: key });
  const weigh = sumStage(frame, { name: "y", lines: value, weights: "ta" });
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
  const body = declareLiveKeys(frame) + declareScores(frame, "s") +
    stageLoop(scores, weigh.load("0u", "base")) +
    finishScores(frame, { slopes: false }) + maskKeys(frame) + rowMaxima(frame) + largest +
    updateSoftmax(frame) + dropKeys(frame, "s") +
    weightStages(frame, { stage: weigh, name: "s", next: scores.load("0u", nextTile(frame)), ready: true });
  return stagedMain(frame, { reversed: causal, lines: weightLines(frame), extra: exchangeMemory(frame) }) +
    queryRange(frame) +
    declareQueryPositions(frame) + declareBias(frame) + declareSums(frame, "y") +
    repeat(y.quads, (i) => `  var high${i} = vec4f(${LOWEST});\n  var total${i} = vec4f();\n`) +
    prefetchFirst(frame, scores) + eachTile(frame, body) + wholes + eachRow(frame, write) + "}\n";
}

/** Writes the gradient by the queries. */
export function stagedGradQ(frame: Frame): string {
  const { causal, shape, loads, rows } = frame;
  const { y } = blocksOf(frame);
  const extra = `var<workgroup> ts: array<array<vec4f, ${rows / FOUR}>, 2>;\n`;
  const [key, value] = ["a1", "a2"].map((buffer) =>
    streamedTileRows(keyRows(frame, buffer), wholeKeys(frame))
  );
  const factor = scoreFactor(frame);
  const scores = scoreStage(frame, { name: "s", own: { rows: queryRows(frame, "a0"), factor }, other: key });
  const changes = scoreStage(frame, { name: "dp", own: { rows: queryRows(frame, "a3") }, other: value });
  const weigh = sumStage(frame, { name: "y", lines: key, weights: "ta" });
  const write = (m: number): string =>
    `      let to = ${writtenRow(frame)} * ${loads}u;
${writeSums(frame, { name: "y", buffer: "o0", to: "to", factor: f32(shape.scale), m })}`;
  // Statistics wait in workgroup memory: they would occupy registers of every thread of a row.
  const statistic = (name: string, at: number): string =>
    repeat(y.quads, (i) => `    let ${name}${i} = ts[${at}][y${i}q];\n`);
  const save = repeat(y.quads, (i) => `  ts[0][y${i}q] = lse${i};\n  ts[1][y${i}q] = delta${i};\n`);
  const body = declareLiveKeys(frame) + declareScores(frame, "s") +
    stageLoop(scores, changes.load("0u", "base")) +
    finishScores(frame, { slopes: true }) + maskKeys(frame) + statistic("lse", 0) +
    eachColumn(
      frame,
      (j, i) => `    s${j}_${i} = exp2(s${j}_${i} - lse${i})${timesSlope(frame, `c${j}_${i}`)};\n`,
    ) +
    declareScores(frame, "dp") + stageLoop(changes, weigh.load("0u", "base")) +
    dropKeys(frame, "dp") + statistic("delta", 1) +
    eachColumn(frame, (j, i) => `    s${j}_${i} *= dp${j}_${i} - delta${i};\n`) +
    weightStages(frame, { stage: weigh, name: "s", next: scores.load("0u", nextTile(frame)) });
  return stagedMain(frame, { reversed: causal, lines: weightLines(frame), extra }) +
    queryRange(frame) +
    declareQueryPositions(frame) + declareBias(frame) +
    `  if (tx == 0u) {\n${queryStatistics(frame)}${save}  }\n` + declareSums(frame, "y") +
    prefetchFirst(frame, scores) +
    eachTile(frame, body) + eachRow(frame, write) + "}\n";
}

/** Writes the gradients by keys and values. */
export function stagedGradKV(
  frame: Frame,
  { outputs: { k, v } }: { readonly outputs: { readonly k: boolean; readonly v: boolean } },
): string {
  const { loads, shape, tile, rows, inputs } = frame;
  const [query, gradient] = ["a0", inputs.grad].map((buffer) =>
    streamedTileRows(queryRows(frame, buffer), wholeQueries(frame))
  );
  const factor = scoreFactor(frame);
  const scores = scoreStage(frame, { name: "s", own: { rows: keyRows(frame, "a1"), factor }, other: query });
  const changes = scoreStage(frame, { name: "dp", own: { rows: keyRows(frame, "a2") }, other: gradient });
  const weighV = sumStage(frame, { name: "z", lines: gradient, weights: "tp" });
  const weighK = sumStage(frame, { name: "y", lines: query, weights: "tp" });
  const write = (m: number): string =>
    `      let to = ${writtenRow(frame)} * ${loads}u;\n` +
    (k ? writeSums(frame, { name: "y", buffer: "o0", to: "to", factor: f32(shape.scale), m }) : "") +
    (v ? writeSums(frame, { name: "z", buffer: k ? "o1" : "o0", to: "to", factor: "1.0f", m }) : "");
  const slope = (j: number, i: number): string => {
    const change = `dp${j}_${i} - delta${j}`, cap = timesSlope(frame, `c${j}_${i}`);
    return cap === "" ? change : `(${change})${cap}`;
  };
  const again = scores.load("0u", nextTile(frame));
  // Weights wait in workgroup memory until the score gradients are known: each thread reads what it wrote.
  const body = declareLiveQueries(frame) + columnValues(frame, { name: "lse", value: inputs.lse }) +
    declareScores(frame, "s") + stageLoop(scores, (v ? weighV : changes).load("0u", "base")) +
    finishScores(frame, { slopes: k }) + maskQueries(frame) +
    eachColumnPlace(
      frame,
      "tp",
      (j, i, place) => `    ${place} = exp2(s${j}_${i} - lse${j} * ${f32(Math.LOG2E)});\n`,
    ) +
    (v ? stageLoop(weighV, k ? changes.load("0u", "base") : again) : "") +
    (k
      ? columnValues(frame, { name: "delta", value: inputs.delta }) + declareScores(frame, "dp") +
        stageLoop(changes, weighK.load("0u", "base")) +
        eachColumnPlace(frame, "tp", (j, i, place) => `    ${place} *= ${slope(j, i)};\n`) +
        stageLoop(weighK, again)
      : "");
  const weights = declareLines({ name: "tp", lines: tile, quads: rows / FOUR });
  return stagedMain(frame, { reversed: false, lines: STAGE_DEPTH, extra: weights }) + keyRange(frame) +
    declareOwnPositions(frame, "i32(first)") + declareBias(frame) + (k ? declareSums(frame, "y") : "") +
    (v ? declareSums(frame, "z") : "") +
    prefetchFirst(frame, scores) + eachTile(frame, body) + eachRow(frame, write) + "}\n";
}

/** Whether every tile of keys is complete. */
function wholeKeys({ window, keys, tile, shape }: Frame): boolean {
  return !shape.ranges && window === null && keys % tile === 0;
}

/** Whether every tile of queries is complete. */
function wholeQueries({ keys, tile, rows, shape }: Frame): boolean {
  return !shape.ranges && shape.time % tile === 0 && rows % tile === 0 && (keys - shape.time) % tile === 0;
}
