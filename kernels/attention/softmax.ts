/**
 * The online softmax of the forward kernels, and the saved statistics that the gradients recompute weights from.
 *
 * Source: Milakov and Gimelshein 2018, algorithm 3; Dao et al. 2022, algorithms 1 and 4.
 *
 * @module
 */

import { f32, repeat } from "../kernel.ts";
import { type Frame, queryRow } from "./frame.ts";
import { BARRIER, blocksOf, eachSum } from "./thread_block.ts";

/** Declares `top{i}`, the largest of a thread's scores in each row. */
export function rowMaxima(frame: Frame): string {
  const { x, y } = blocksOf(frame);
  const scores = (i: number): string[] => Array.from({ length: 4 * x.quads }, (_, j) => `s${j}_${i}`);
  return repeat(
    y.quads,
    (i) => `    let top${i} = ${scores(i).reduce((a, b) => `max(${a}, ${b})`)};\n`,
  );
}

/** Turns scores into weights relative to the new maxima, and rescales the sums that were relative to the old ones. */
export function updateSoftmax(frame: Frame): string {
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

/** Declares the workgroup memory of {@link combineRows}; none with subgroups. */
export function exchangeMemory(frame: Frame): string {
  const { x, y } = blocksOf(frame);
  return frame.subgroups
    ? ""
    : `var<workgroup> tc: array<array<array<vec4f, ${y.span}>, ${y.quads}>, ${x.span}>;\n`;
}

/**
 * Combines `name{i}` over the threads that share a row and declares the result `whole{i}`. It contains a barrier.
 *
 * @param frame The frame
 * @param options `name`: the vec4f of each quad of rows; `by`: WGSL that combines two
 * @returns WGSL
 */
export function combineRows(
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

/** Declares `lse{i}`, to base 2, and `delta{i}` of quad i of own queries. */
export function queryStatistics(frame: Frame): string {
  const row = (i: number, lane: string): string =>
    queryRow(frame, { i: `min(u32(at${i}.${lane} - offset), ${frame.count - 1}u)`, count: frame.count });
  const { lse, delta } = frame.inputs;
  const four = (i: number, value: (row: string) => string): string =>
    `vec4f(${[..."xyzw"].map((lane) => value(row(i, lane))).join(", ")})`;
  return repeat(
    blocksOf(frame).y.quads,
    (i) => `  let lse${i} = ${four(i, lse)} * ${f32(Math.LOG2E)};\n  let delta${i} = ${four(i, delta)};\n`,
  );
}

/** WGSL for one divided by `total`, the sum of the weights of a query; 0 for one that sees no key, as only ranges allow. */
export function shareOf({ shape, inputs: { range } }: Frame, query: string, total: string): string {
  if (!shape.ranges) return `1.0f / ${total}`;
  const seen = range(query);
  return `select(0.0f, 1.0f / ${total}, ${seen}.x < ${seen}.y)`;
}

/** WGSL for a log-sum-exp, given to base 2; 0 for a query that sees no key. */
export function lseOf({ shape, inputs: { range } }: Frame, query: string, value: string): string {
  const natural = `(${value}) * ${f32(Math.LN2)}`, seen = range(query);
  return shape.ranges ? `select(0.0f, ${natural}, ${seen}.x < ${seen}.y)` : natural;
}
