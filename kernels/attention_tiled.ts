/**
 * Attention kernels for GPUs, by tiles in workgroup memory and blocks in registers.
 *
 * @module
 */

import { f32, repeat } from "./kernel.ts";
import {
  accumulate,
  blockMain,
  blocksOf,
  eachRow,
  exchange,
  fetch,
  fetched,
  keep,
  loadOwn,
  mask,
  meanwhile,
  multiply,
  ownPositions,
  putWeights,
  type Rows,
  sums,
  writeSums,
} from "./attention_blocks.ts";
import { type Frame, keyAddress, keyRange, queryRange, queryRow } from "./attention_tiles.ts";
import { LOWEST } from "./rows.ts";

const BARRIER = "    workgroupBarrier();\n";

/** WGSL of workgroup memory and `main` of the forward kernel; `offset` is WGSL for the position of query 0. */
export function tiledForward(frame: Frame, { offset }: { readonly offset: string }): string {
  const { causal, shape, tile, loads, count } = frame;
  const { quads, columns, wide } = blocksOf(frame);
  const [key, value] = ["a1", "a2"].map((buffer): Rows => ({ buffer, address: (j) => keyAddress(frame, j) }));
  const [putTop, getTop] = exchange(frame, { name: "top", by: (a, b) => `max(${a}, ${b})` });
  const [putTotal, getTotal] = exchange(frame, { name: "total", by: (a, b) => `${a} + ${b}` });
  const top = (r: number): string => {
    const all = Array.from({ length: columns }, (_, j) => `s${j}_${r}`);
    return `    let top${r} = ${all.reduce((a, b) => `max(${a}, ${b})`)};\n`;
  };
  const soften = (r: number): string =>
    `    let next${r} = max(high${r}, whole${r});
    let fade${r} = exp2(high${r} - next${r});
    high${r} = next${r};
${
      repeat(columns, (j) => `    s${j}_${r} = exp2(s${j}_${r} - next${r});\n`)
    }    total${r} = fma(total${r}, fade${r}, ${
      Array.from({ length: columns }, (_, j) => `s${j}_${r}`).join(" + ")
    });
${repeat(4 * wide, (d) => `    y${d}_${r} *= fade${r};\n`)}`;
  const write = (lane: string, r: number): string =>
    `      let to = ${queryRow(frame, { i: "row", count })};
${
      writeSums(frame, {
        name: "y",
        buffer: "o0",
        to: `to * ${loads}u`,
        factor: `(1.0f / whole${r}.${lane})`,
        lane,
        r,
      })
    }      if (tx == 0u) { o1[to] = (high${r}.${lane} + log2(whole${r}.${lane})) * ${f32(Math.LN2)}; }\n`;
  const body = keep(frame) + BARRIER +
    meanwhile(frame, fetch(frame, { rows: value, base: "base" }), multiply(frame, { name: "s", own: "tq" })) +
    hideKeys(frame) + repeat(quads, top) + putTop + BARRIER +
    keep(frame) + getTop + repeat(quads, soften) + putWeights(frame, "s") + BARRIER +
    meanwhile(frame, fetch(frame, { rows: key, base: `base + ${tile}` }), accumulate(frame, "y")) + BARRIER;
  return blockMain(frame, { own: ["tq"], exchanged: true, reversed: causal }) + queryRange(frame, offset) +
    queryPositions(frame) +
    loadOwn(frame, { tile: "tq", rows: queries(frame, "a0"), factor: f32(shape.scale * Math.LOG2E) }) +
    sums(frame, "y") +
    repeat(quads, (r) => `  var high${r} = vec4f(${LOWEST});\n  var total${r} = vec4f();\n`) +
    fetched(frame) + fetch(frame, { rows: key, base: "lo" }) + overTiles(frame, body) + putTotal + BARRIER +
    getTotal + eachRow(frame, write) + "}\n";
}

/** WGSL of workgroup memory and `main` of the gradient by the queries. */
export function tiledGradQ(frame: Frame): string {
  const { causal, shape, tile, keys, loads, count } = frame;
  const { quads, columns } = blocksOf(frame);
  const [key, value] = ["a1", "a2"].map((buffer): Rows => ({ buffer, address: (j) => keyAddress(frame, j) }));
  const row = (r: number, i: number): string =>
    queryRow(frame, { i: `min(u32(at${r}.${"xyzw"[i]} - offset), ${count - 1}u)`, count });
  const four = (r: number, buffer: string): string =>
    `vec4f(${[0, 1, 2, 3].map((i) => `${buffer}[${row(r, i)}]`).join(", ")})`;
  const slope = (r: number): string =>
    repeat(columns, (j) => `    s${j}_${r} = exp2(s${j}_${r} - lse${r}) * (dp${j}_${r} - delta${r});\n`);
  const write = (lane: string, r: number): string =>
    `      let to = ${queryRow(frame, { i: "row", count })} * ${loads}u;
${writeSums(frame, { name: "y", buffer: "o0", to: "to", factor: f32(shape.scale), lane, r })}`;
  const body = keep(frame) + BARRIER +
    meanwhile(frame, fetch(frame, { rows: key, base: "base" }), multiply(frame, { name: "dp", own: "tg" })) +
    BARRIER + keep(frame) + BARRIER + multiply(frame, { name: "s", own: "tq" }) + hideKeys(frame) +
    repeat(quads, slope) + putWeights(frame, "s") + BARRIER +
    meanwhile(frame, fetch(frame, { rows: value, base: `base + ${tile}` }), accumulate(frame, "y")) + BARRIER;
  return blockMain(frame, { own: ["tq", "tg"], exchanged: false, reversed: causal }) +
    queryRange(frame, `${keys - shape.time}`) + queryPositions(frame) +
    loadOwn(frame, { tile: "tq", rows: queries(frame, "a0"), factor: f32(shape.scale * Math.LOG2E) }) +
    loadOwn(frame, { tile: "tg", rows: queries(frame, "a3") }) +
    repeat(
      quads,
      (r) => `  let lse${r} = ${four(r, "a4")} * ${f32(Math.LOG2E)};\n  let delta${r} = ${four(r, "a5")};\n`,
    ) +
    sums(frame, "y") + fetched(frame) + fetch(frame, { rows: value, base: "lo" }) + overTiles(frame, body) +
    eachRow(frame, write) + "}\n";
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
  const { shape, tile, split, loads, count } = frame;
  const { quads, columns } = blocksOf(frame);
  const { k, v } = outputs;
  const query = queries(frame, "a0"), gradient = queries(frame, grad);
  const own = (buffer: string): Rows => ({ buffer, address: (j) => keyAddress(frame, j) });
  const statistics = repeat(
    columns,
    (j) =>
      `    let h${j} = ${
        queryRow(frame, { i: `u32(min(base + i32(tx) + ${j * split}, last))`, count: shape.time })
      };
    let lse${j} = ${lse}[h${j}] * ${f32(Math.LOG2E)};
${k ? `    let delta${j} = a5[h${j}];\n` : ""}`,
  );
  const block = (text: (j: number, r: number) => string): string =>
    repeat(columns, (j) => repeat(quads, (r) => text(j, r)));
  const scores = statistics + multiply(frame, { name: "s", own: "tk" });
  const weights = hideQueries(frame) + block((j, r) => `    s${j}_${r} = exp2(s${j}_${r} - lse${j});\n`);
  const slopes = block((j, r) => `    s${j}_${r} *= dp${j}_${r} - delta${j};\n`);
  const next = fetch(frame, { rows: query, base: `base + ${tile}` });
  const values = v ? accumulate(frame, "z") : "";
  const body = keep(frame) + BARRIER +
    meanwhile(frame, fetch(frame, { rows: gradient, base: "base" }), scores) +
    weights + (v ? putWeights(frame, "s") : "") + BARRIER + keep(frame) + BARRIER +
    (k
      ? meanwhile(
        frame,
        fetch(frame, { rows: query, base: "base" }),
        multiply(frame, { name: "dp", own: "tv" }) + values,
      ) + BARRIER + keep(frame) + slopes + putWeights(frame, "s") + BARRIER +
        meanwhile(frame, next, accumulate(frame, "y"))
      : meanwhile(frame, next, values)) +
    BARRIER;
  const write = (lane: string, r: number): string => {
    const to = { lane, r, to: "to" };
    return `      let to = ${queryRow(frame, { i: "row", count })} * ${loads}u;\n` +
      (k ? writeSums(frame, { ...to, name: "y", buffer: "o0", factor: f32(shape.scale) }) : "") +
      (v ? writeSums(frame, { ...to, name: "z", buffer: k ? "o1" : "o0", factor: "1.0f" }) : "");
  };
  return blockMain(frame, { own: k ? ["tk", "tv"] : ["tk"], exchanged: false, reversed: false }) +
    keyRange(frame) + ownPositions(frame, "i32(first)") +
    loadOwn(frame, { tile: "tk", rows: own("a1"), factor: f32(shape.scale * Math.LOG2E) }) +
    (k ? loadOwn(frame, { tile: "tv", rows: own("a2") }) + sums(frame, "y") : "") +
    (v ? sums(frame, "z") : "") +
    fetched(frame) + fetch(frame, { rows: query, base: "lo" }) + overTiles(frame, body) +
    eachRow(frame, write) +
    "}\n";
}

/** Rows of a buffer laid out as the queries. */
function queries(frame: Frame, buffer: string): Rows {
  const { loads, shape } = frame;
  return { buffer, address: (i) => `${queryRow(frame, { i, count: shape.time })} * ${loads}u` };
}

function overTiles({ tile }: Frame, body: string): string {
  return `  for (var base = lo; base < hi; base += ${tile}) {\n${body}  }\n`;
}

/** Declares the positions of own queries, and the first key that not all of them see. */
function queryPositions(frame: Frame): string {
  return `${ownPositions(frame, "i32(first) + offset")}  let seen = ${
    frame.causal ? "min(hi, i32(first) + offset + 1)" : "hi"
  };
`;
}

/** Masks the scores of keys that own queries do not see. */
function hideKeys(frame: Frame): string {
  const { causal, window, rows, tile } = frame;
  const partly = [
    `base + ${tile} > seen`,
    ...(window === null ? [] : [`base < i32(first) + offset + ${rows - window}`]),
  ];
  const visible = (r: number): string =>
    [
      causal ? `(vec4i(j) <= min(at${r}, vec4i(hi - 1)))` : "(vec4i(j) < vec4i(hi))",
      ...(window === null ? [] : [`(vec4i(j) > at${r} - ${window})`]),
    ].join(" & ");
  return mask(frame, { name: "s", partly: partly.join(" || "), visible });
}

/** Masks the scores of queries that do not see own keys. */
function hideQueries(frame: Frame): string {
  const { causal, window, rows, tile } = frame;
  const partly = [
    `base + ${tile} > hi`,
    ...(causal ? [`i32(first) + ${rows - 1} > base + offset`] : []),
    ...(window === null ? [] : [`i32(first) <= base + offset + ${tile - 1 - window}`]),
  ];
  const visible = (r: number): string =>
    [
      "(vec4i(j) < vec4i(hi))",
      ...(causal ? [`(vec4i(j + offset) >= at${r})`] : []),
      ...(window === null ? [] : [`(vec4i(j + offset) < at${r} + ${window})`]),
    ].join(" & ");
  return mask(frame, { name: "s", partly: partly.join(" || "), visible });
}
