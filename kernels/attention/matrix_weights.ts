/**
 * From scores to weights between two products on matrix units: each thread reads a row of scores, or half of one, from
 * workgroup memory as f32, and writes weights in their place as f16.
 *
 * The maximum that weights are relative to rises only when scores exceed it by {@link SLACK}: sums then keep their scale for
 * most tiles, as no thread can rescale what the registers of matrix units hold.
 *
 * @module
 */

import { f32, repeat } from "../kernel.ts";
import { LOWEST } from "../rows.ts";
import { type MatrixFrame, queryRowOf } from "./matrix_frame.ts";
import { loadColumns, passColumns } from "./matrix_products.ts";
import { finishScore, scoreFactor, timesSlope } from "./scores.ts";
import { BARRIER } from "./thread_block.ts";

/** How far scores to base 2 may exceed the maximum that weights are relative to: f16 holds weights up to 2 ** 16. */
const SLACK = "8.0f";

/** Runs text for every quad of scores of a thread: its number, its place after `at`, its first column after `column`. */
function eachQuad(
  { tile, share, by: { unit: { k } } }: MatrixFrame,
  text: (quad: { readonly n: number; readonly place: number; readonly column: number }) => string,
): string {
  return repeat(tile / k / share, (i) =>
    repeat(k / 4, (q) =>
      text({
        n: i * k / 4 + q,
        place: (i * share * k) / 4 + q,
        column: i * share * k + 4 * q,
      })));
}

function quadsOf({ tile, share }: MatrixFrame): number {
  return tile / 4 / share;
}

/** Declares `name{n}` (vec4f), the thread's scores of block `block`. */
function readScores(
  frame: MatrixFrame,
  { name, block }: { readonly name: string; readonly block: number },
): string {
  const { height, scoreLine } = frame, start = block * height * scoreLine;
  return eachQuad(
    frame,
    ({ n, place }) => `      var ${name}${n} = bitcast<vec4f>(scores[sid][at + ${start + place}u]);\n`,
  );
}

/** Turns products `s{n}` into scores to base 2, and masks them; with `slopes` declares the derivatives `c{n}` of the cap. */
function maskedScores(frame: MatrixFrame, { slopes }: { readonly slopes: boolean }): string {
  const { tile, by: { unit } } = frame;
  const finish = eachQuad(frame, ({ n }) => {
    const name = `s${n}`, slope = slopes ? `c${n}` : null;
    return `      ${name} *= ${scoreFactor(frame)};\n` +
      finishScore(frame, { name, type: "vec4f", slope, value: "" });
  });
  const hide = eachQuad(frame, ({ n, column }) => {
    const at = `vec4i(${[0, 1, 2, 3].map((lane) => column + lane).join(", ")})`;
    return `        s${n} = select(vec4f(${LOWEST}), s${n}, (${at} >= since) & (${at} < until));\n`;
  });
  return `${finish}      if (base < begin || base + ${tile} > end) {
        let column = base + i32(side) * ${unit.k};
        let since = vec4i(begin - column);
        let until = vec4i(end - column);
${hide}      }\n`;
}

/** Writes the weights `name{n}` into block `block` as f16; `safe`: whether they are small, else too large ones become infinite. */
function writeWeights(
  frame: MatrixFrame,
  { name, block, safe }: { readonly name: string; readonly block: number; readonly safe: boolean },
): string {
  const { height, scoreLine } = frame, start = block * height * scoreLine;
  const half = (n: number): string =>
    `bitcast<vec2<u32>>(${safe ? `vec4<f16>(${name}${n})` : `rounded(${name}${n})`})`;
  return eachOctet(
    frame,
    ({ n, place }) =>
      `      scores[sid][at + ${start + place}u] = vec4<u32>(${half(2 * n)}, ${half(2 * n + 1)});\n`,
  );
}

/** Runs text for every load of eight weights of a thread: its number, and its place after `at`. */
function eachOctet(
  { tile, share, by: { unit: { k } } }: MatrixFrame,
  text: (octet: { readonly n: number; readonly place: number }) => string,
): string {
  return repeat(
    tile / k / share,
    (i) => repeat(k / 8, (o) => text({ n: i * k / 8 + o, place: (i * share * k) / 4 + o })),
  );
}

/** Rounds to f16; numbers that are too large become infinite on every adapter, so that an overflow shows. */
export const ROUNDED = `fn rounded(x: vec4f) -> vec4<f16> {
  return vec4<f16>(select(x, x * 3.0e38f, abs(x) >= vec4f(65520.0f)));
}
`;

/** Adds up or compares `values` over the threads that share a row. */
function acrossSides({ share }: MatrixFrame, name: string, by: (a: string, b: string) => string): string {
  return share === 1 ? "" : `      ${name} = ${by(name, `subgroupShuffleXor(${name}, 1u)`)};\n`;
}

/** Declares the running maximum and the sum of weights of the own row. */
export const DECLARE_SOFTMAX = `  var high = ${LOWEST};\n  var total = 0.0f;\n`;

/** Declares the factor of the sums so far, at the start of a tile. */
export const DECLARE_FADE = "    var fade = 1.0f;\n";

/** Declarations of the module that the softmax needs: `risen`, whether sums must be rescaled, and a factor of each row. */
export function softmaxMemory({ height, by: { subgroups } }: MatrixFrame): string {
  return `var<workgroup> risen: u32;\nvar<workgroup> factors: array<array<f32, ${height}>, ${subgroups}>;\n`;
}

/** Turns scores into weights relative to `high`. */
export function softmaxWeights(frame: MatrixFrame): string {
  const names = Array.from({ length: quadsOf(frame) }, (_, n) => `s${n}`);
  const top = names.reduce((a, b) => `max(${a}, ${b})`), sum = names.join(" + ");
  return readScores(frame, { name: "s", block: 0 }) + maskedScores(frame, { slopes: false }) +
    `      let tops = ${top};
      var top = max(max(tops.x, tops.y), max(tops.z, tops.w));
${
      acrossSides(frame, "top", (a, b) =>
        `max(${a}, ${b})`)
    }      let next = select(high, top, top > high + ${SLACK});
      if (next > high && high > ${LOWEST}) { risen = 1u; }
      fade = exp2(high - next);
      high = next;
      let level = select(next, 0.0f, next == ${LOWEST});
${
      eachQuad(frame, ({ n }) =>
        `      s${n} = exp2(s${n} - level);\n`)
    }      total = fma(total, fade, dot(${sum}, vec4f(1.0f)));
` + writeWeights(frame, { name: "s", block: 0, safe: true });
}

/**
 * Multiplies each row of the sums `name` by its `fade` where some row of the workgroup needs it: they pass through the
 * scores, while the weights wait in registers. Contains barriers.
 */
export function rescaleSums(frame: MatrixFrame, name: string): string {
  const { by: { unit: { k } }, share } = frame;
  const kept = (text: (n: number, place: number) => string): string =>
    eachOctet(frame, ({ n, place }) => text(n, place));
  return `    if (workgroupUniformLoad(&risen) != 0u) {
${kept((n, place) => `      let w${n} = scores[sid][at + ${place}u];\n`)}${
    passColumns(frame, {
      name,
      text: (columns) =>
        repeat(Math.ceil(columns.count / k / share), (i) =>
          repeat(k / 4, (q) => {
            const at = `scores[sid][at + ${i * share * k / 4 + q}u]`;
            return `      ${at} = bitcast<vec4<u32>>(bitcast<vec4f>(${at}) * fade);\n`;
          })) + BARRIER + loadColumns(frame, name, columns),
    })
  }${BARRIER}      if (lid == 0u) { risen = 0u; }
${kept((n, place) => `      scores[sid][at + ${place}u] = w${n};\n`)}${BARRIER}    }
`;
}

/** Declares `total`, the sum over the whole row, and stores the factor of its sums. Contains no barrier. */
export function finishSoftmax(frame: MatrixFrame): string {
  return acrossSides(frame, "total", (a, b) => `${a} + ${b}`) +
    `  factors[sid][place] = select(1.0f / total, 0.0f, total == 0.0f);
`;
}

/** Declares `lse`, to base 2, and `delta` of the own query. */
export function ownNumbers(frame: MatrixFrame): string {
  const row = queryRowOf(frame, "ownRow"), { lse, delta } = frame.inputs;
  return `  let lse = ${lse(row)} * ${f32(Math.LOG2E)};\n  let delta = ${delta(row)};\n`;
}

/** Turns scores and products with dOut into the gradient by the scores, for own queries. */
export function queryWeights(frame: MatrixFrame): string {
  return readScores(frame, { name: "s", block: 0 }) + readScores(frame, { name: "d", block: 1 }) +
    maskedScores(frame, { slopes: true }) +
    eachQuad(
      frame,
      ({ n }) => `      d${n} = exp2(s${n} - lse) * (d${n} - delta)${timesSlope(frame, `c${n}`)};\n`,
    ) +
    writeWeights(frame, { name: "d", block: 0, safe: false });
}

/** First load of the numbers of streamed queries in a tile, after `operands` operands. */
function numbersAt({ tile, line }: MatrixFrame, operands: number): number {
  return operands * tile * line;
}

/** Loads the log-sum-exp, to base 2, and delta of streamed queries with their tile; `k`: whether delta is wanted. */
export function streamedNumbers(
  frame: MatrixFrame,
  { operands, k }: { readonly operands: number; readonly k: boolean },
): { readonly declare: string; readonly load: string; readonly store: (which: string) => string } {
  const { tile, shape: { time }, inputs: { lse, delta } } = frame, first = numbersAt(frame, operands);
  const row = queryRowOf(frame, `min(u32(ahead) + lid, ${time - 1}u)`);
  const put = (which: string, from: number, name: string): string =>
    ` tiles[${which}][${from}u + lid / 4u][lid % 4u] = bitcast<u32>(${name});`;
  return {
    declare: "  var numberA = 0.0f;\n  var numberB = 0.0f;\n",
    load: `    if (lid < ${tile}u) { let row = ${row}; numberA = ${lse("row")} * ${f32(Math.LOG2E)};${
      k ? ` numberB = ${delta("row")};` : ""
    } }\n`,
    store: (which) =>
      `    if (lid < ${tile}u) {${put(which, first, "numberA")}${
        k ? put(which, first + tile / 4, "numberB") : ""
      } }\n`,
  };
}

/** Turns scores into weights, and with `k` products with dOut into the gradient by the scores, for own keys. */
export function keyWeights(
  frame: MatrixFrame,
  { operands, which, outputs: { k, v } }: {
    readonly operands: number;
    readonly which: string;
    readonly outputs: { readonly k: boolean; readonly v: boolean };
  },
): string {
  const { tile, by: { unit } } = frame, first = numbersAt(frame, operands);
  const number = (from: number, column: number): string =>
    `bitcast<vec4f>(tiles[${which}][side * ${unit.k / 4}u + ${from + column / 4}u])`;
  return readScores(frame, { name: "s", block: 0 }) + (k ? readScores(frame, { name: "d", block: 1 }) : "") +
    maskedScores(frame, { slopes: k }) +
    eachQuad(frame, ({ n, column }) =>
      `      s${n} = exp2(s${n} - ${number(first, column)});\n` +
      (k
        ? `      d${n} = s${n} * (d${n} - ${number(first + tile / 4, column)})${
          timesSlope(frame, `c${n}`)
        };\n`
        : "")) +
    (v ? writeWeights(frame, { name: "s", block: 0, safe: true }) : "") +
    (k ? writeWeights(frame, { name: "d", block: 1, safe: false }) : "");
}
