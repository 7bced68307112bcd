/**
 * Attention kernels for GPUs whose products are small matrix products: both sides of each are staged in workgroup
 * memory, 16 steps of the sum at a time, and only the weights of a tile lie there as a whole.
 *
 * Lines of a sum lie in groups of four with a quad between groups, so that threads of neighbouring groups write into
 * different banks.
 *
 * @module
 */

import { f32, repeat } from "../kernel.ts";
import {
  combine,
  eachColumn,
  eachRow,
  exchange,
  ownPositions,
  sums,
  writeSums,
  zeros,
} from "./tiled_products.ts";
import { blocksOf } from "./tiled_memory.ts";
import {
  hideKeys,
  hideQueries,
  keyRows,
  liveKeys,
  liveQueries,
  overTiles,
  queries,
  queryPositions,
  queryStatistics,
  soften,
  tops,
} from "./tiled.ts";
import { type Frame, keyRange, queryRange, queryRow, writtenRow } from "./frame.ts";
import { LOWEST } from "../rows.ts";
import {
  across,
  along,
  atColumns,
  columnValues,
  DEPTH,
  following,
  FOUR,
  held,
  loop,
  memory,
  open,
  putting,
  start,
  streamedLines,
} from "./staged_products.ts";

/** WGSL of workgroup memory and `main` of the forward kernel; `offset` is WGSL for the position of query 0. */
export function stagedForward(frame: Frame, { offset }: { readonly offset: string }): string {
  const { causal, shape, loads, count } = frame;
  const { y } = blocksOf(frame);
  const largest = combine(frame, { name: "top", by: (a, b) => `max(${a}, ${b})` });
  const wholes = combine(frame, { name: "total", by: (a, b) => `${a} + ${b}` });
  const factor = f32(shape.scale * Math.LOG2E);
  // What a cache holds after the last position may be anything.
  const whole = wholeKeys(frame) && !Number.isNaN(Number(offset));
  const [key, value] = ["a1", "a2"].map((buffer) => streamedLines(keyRows(frame, buffer), whole));
  const scores = across(frame, { name: "s", own: { rows: queries(frame, "a0"), factor }, other: key });
  const weigh = along(frame, { name: "y", lines: value, weights: "ta" });
  const write = (m: number, lane: string): string =>
    `      let to = ${queryRow(frame, { i: "row", count })};
${
      writeSums(frame, { name: "y", buffer: "o0", to: `to * ${loads}u`, factor: `(1.0f / whole${lane})`, m })
    }${`      if (tx == 0u) { o1[to] = (high${lane} + log2(whole${lane})) * ${f32(Math.LN2)}; }\n`}`;
  const body = liveKeys(frame) + zeros(frame, "s") + loop(scores, weigh.fetch("0u", "base")) +
    hideKeys(frame) + tops(frame) + largest + soften(frame) +
    putting(frame, { stage: weigh, name: "s", next: scores.fetch("0u", following(frame)), ready: true });
  return open(frame, { reversed: causal, lines: held(frame), extra: exchange(frame) }) +
    queryRange(frame, offset) +
    queryPositions(frame) + sums(frame, "y") +
    repeat(y.quads, (i) => `  var high${i} = vec4f(${LOWEST});\n  var total${i} = vec4f();\n`) +
    start(frame, scores) + overTiles(frame, body) + wholes + eachRow(frame, write) + "}\n";
}

/** WGSL of workgroup memory and `main` of the gradient by the queries. */
export function stagedGradQ(frame: Frame): string {
  const { causal, shape, keys, loads, rows } = frame;
  const { y } = blocksOf(frame);
  const extra = `var<workgroup> ts: array<array<vec4f, ${rows / FOUR}>, 2>;\n`;
  const [key, value] = ["a1", "a2"].map((buffer) => streamedLines(keyRows(frame, buffer), wholeKeys(frame)));
  const factor = f32(shape.scale * Math.LOG2E);
  const scores = across(frame, { name: "s", own: { rows: queries(frame, "a0"), factor }, other: key });
  const changes = across(frame, { name: "dp", own: { rows: queries(frame, "a3") }, other: value });
  const weigh = along(frame, { name: "y", lines: key, weights: "ta" });
  const write = (m: number): string =>
    `      let to = ${writtenRow(frame)} * ${loads}u;
${writeSums(frame, { name: "y", buffer: "o0", to: "to", factor: f32(shape.scale), m })}`;
  // They would take registers of all threads of a row.
  const statistic = (name: string, at: number): string =>
    repeat(y.quads, (i) => `    let ${name}${i} = ts[${at}][y${i}q];\n`);
  const keep = repeat(y.quads, (i) => `  ts[0][y${i}q] = lse${i};\n  ts[1][y${i}q] = delta${i};\n`);
  const body = liveKeys(frame) + zeros(frame, "s") + loop(scores, changes.fetch("0u", "base")) +
    hideKeys(frame) + statistic("lse", 0) +
    eachColumn(frame, (j, i) => `    s${j}_${i} = exp2(s${j}_${i} - lse${i});\n`) +
    zeros(frame, "dp") + loop(changes, weigh.fetch("0u", "base")) + statistic("delta", 1) +
    eachColumn(frame, (j, i) => `    s${j}_${i} *= dp${j}_${i} - delta${i};\n`) +
    putting(frame, { stage: weigh, name: "s", next: scores.fetch("0u", following(frame)) });
  return open(frame, { reversed: causal, lines: held(frame), extra }) +
    queryRange(frame, `${keys - shape.time}`) +
    queryPositions(frame) +
    `  if (tx == 0u) {\n${queryStatistics(frame)}${keep}  }\n` + sums(frame, "y") + start(frame, scores) +
    overTiles(frame, body) + eachRow(frame, write) + "}\n";
}

/** WGSL of workgroup memory and `main` of the gradients by keys and values; `grad` and `lse` are buffers. */
export function stagedGradKV(
  frame: Frame,
  { outputs: { k, v }, grad, lse }: {
    readonly outputs: { readonly k: boolean; readonly v: boolean };
    readonly grad: string;
    readonly lse: string;
  },
): string {
  const { loads, shape, tile, rows } = frame;
  const [query, gradient] = ["a0", grad].map((buffer) =>
    streamedLines(queries(frame, buffer), wholeQueries(frame))
  );
  const factor = f32(shape.scale * Math.LOG2E);
  const scores = across(frame, { name: "s", own: { rows: keyRows(frame, "a1"), factor }, other: query });
  const changes = across(frame, { name: "dp", own: { rows: keyRows(frame, "a2") }, other: gradient });
  const weighV = along(frame, { name: "z", lines: gradient, weights: "tp" });
  const weighK = along(frame, { name: "y", lines: query, weights: "tp" });
  const write = (m: number): string =>
    `      let to = ${writtenRow(frame)} * ${loads}u;\n` +
    (k ? writeSums(frame, { name: "y", buffer: "o0", to: "to", factor: f32(shape.scale), m }) : "") +
    (v ? writeSums(frame, { name: "z", buffer: k ? "o1" : "o0", to: "to", factor: "1.0f", m }) : "");
  const again = scores.fetch("0u", following(frame));
  // The weights wait in workgroup memory for the changes of the scores: each thread reads what it wrote.
  const body = liveQueries(frame) + columnValues(frame, { name: "lse", buffer: lse }) +
    zeros(frame, "s") + loop(scores, (v ? weighV : changes).fetch("0u", "base")) +
    hideQueries(frame) +
    atColumns(
      frame,
      "tp",
      (j, i, place) => `    ${place} = exp2(s${j}_${i} - lse${j} * ${f32(Math.LOG2E)});\n`,
    ) +
    (v ? loop(weighV, k ? changes.fetch("0u", "base") : again) : "") +
    (k
      ? columnValues(frame, { name: "delta", buffer: "a5" }) + zeros(frame, "dp") +
        loop(changes, weighK.fetch("0u", "base")) +
        atColumns(frame, "tp", (j, i, place) => `    ${place} *= dp${j}_${i} - delta${j};\n`) +
        loop(weighK, again)
      : "");
  const weights = memory({ name: "tp", lines: tile, quads: rows / FOUR });
  return open(frame, { reversed: false, lines: DEPTH, extra: weights }) + keyRange(frame) +
    ownPositions(frame, "i32(first)") + (k ? sums(frame, "y") : "") + (v ? sums(frame, "z") : "") +
    start(frame, scores) + overTiles(frame, body) + eachRow(frame, write) + "}\n";
}

/** Whether each tile of keys is a run of keys that exist. */
function wholeKeys({ window, keys, tile }: Frame): boolean {
  return window === null && keys % tile === 0;
}

/** Whether each tile of queries is a run of queries that exist. */
function wholeQueries({ keys, tile, rows, shape }: Frame): boolean {
  return shape.time % tile === 0 && rows % tile === 0 && (keys - shape.time) % tile === 0;
}
