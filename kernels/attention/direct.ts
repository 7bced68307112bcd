/**
 * Direct attention kernels, for software adapters: each thread keeps its own rows in registers and reads the rows of the
 * other side from storage, four at a time. No workgroup memory, no barriers.
 *
 * @module
 */

import { f32, repeat } from "../kernel.ts";
import { declareDrops, dropsOf, dropsOfRows } from "./dropout.ts";
import { attentionMain, type Frame, keyAddress, NONE, queryRow } from "./frame.ts";
import { keyRange, queryRange } from "./ranges.ts";
import { biasIndex, finishScore, scoreFactor, timesSlope } from "./scores.ts";
import { lseOf, shareOf } from "./softmax.ts";
import { LOWEST } from "../rows.ts";

/** Writes the forward kernel. */
export function directForward(frame: Frame): string {
  const { each, causal, load, put } = frame, drops = frame.shape.dropout !== undefined;
  const updateSoftmax = (m: number): string =>
    `${finish(frame, { m, slope: false })}    let visible${m} = ${queryVisible(frame, m)};
    s${m} = select(vec4f(${LOWEST}), s${m}, visible${m});
    let next${m} = max(high${m}, max(max(s${m}.x, s${m}.y), max(s${m}.z, s${m}.w)));
    let p${m} = select(vec4f(), exp2(s${m} - next${m}), visible${m});
    let fade${m} = exp2(high${m} - next${m});
    high${m} = next${m};
    total${m} = fma(total${m}, fade${m}, dot(p${m}, vec4f(1.0f)));
${drops ? `    let w${m} = p${m} * ${dropsOf(frame, `query${m}`, "u32(j)")};\n` : ""}`;
  const write = (m: number): string =>
    `  if (row${m} == wanted${m}) {
    let share = ${shareOf(frame, `row${m}`, `total${m}`)};
${
      eachLoad(frame, (at) => `    ${put("o0", `at${m} + ${at.index}`, `${at.of(`y${m}`)} * share`)}\n`)
    }    o1[query${m}] = ${lseOf(frame, `row${m}`, `high${m} + log2(total${m})`)};
  }
`;
  return `${directMain(frame, { reversed: causal })}${queryRange(frame)}${ownQueries(frame)}${
    registers(frame, ["q", "y"], (m, at) =>
      at.set(`q${m}`, `${load("a0", `at${m} + ${at.index}`)} * ${scoreFactor(frame)}`) + at.zero(`y${m}`))
  }${repeat(each, (m) => `  var high${m} = ${LOWEST};\n  var total${m} = 0.0f;\n`)}${
    streamRows({
      address: (j) => keyAddress(frame, j),
      body: products(frame, { name: "s", own: "q", stream: "a1" }) + repeat(each, updateSoftmax) +
        repeat(each, (m) => eachLoad(frame, (at) => `    ${at.of(`y${m}`)} *= fade${m};\n`)) +
        accumulate(frame, { own: "y", weights: drops ? "w" : "p", stream: "a2" }),
    })
  }${repeat(each, write)}}
`;
}

/** Writes the gradient by the queries. */
export function directGradQ(frame: Frame): string {
  const { each, causal, shape, load, put, inputs: { lse, delta } } = frame,
    drops = shape.dropout !== undefined;
  const open = (m: number): string =>
    `  let lse${m} = ${lse(`query${m}`)} * ${f32(Math.LOG2E)};\n  let delta${m} = ${delta(`query${m}`)};\n`;
  const slope = (m: number): string =>
    `${finish(frame, { m, slope: true })}    let ds${m} = select(vec4f(), exp2(s${m} - lse${m}) * (dp${m}${
      drops ? ` * ${dropsOf(frame, `query${m}`, "u32(j)")}` : ""
    } - delta${m})${timesSlope(frame, `c${m}`)}, ${queryVisible(frame, m)});\n`;
  return `${directMain(frame, { reversed: causal })}${queryRange(frame)}${ownQueries(frame)}${
    repeat(each, open)
  }${
    registers(frame, ["q", "g", "y"], (m, at) =>
      at.set(`q${m}`, `${load("a0", `at${m} + ${at.index}`)} * ${scoreFactor(frame)}`) +
      at.set(`g${m}`, load("a3", `at${m} + ${at.index}`)) + at.zero(`y${m}`))
  }${
    streamRows({
      address: (j) => keyAddress(frame, j),
      body: products(frame, { name: "s", own: "q", stream: "a1" }) +
        products(frame, { name: "dp", own: "g", stream: "a2" }) + repeat(each, slope) +
        accumulate(frame, { own: "y", weights: "ds", stream: "a1" }),
    })
  }${
    registers(frame, [], (m, at) => {
      const value = `${at.of(`y${m}`)} * ${f32(shape.scale)}`;
      return `  if (row${m} == wanted${m}) { ${put("o0", `at${m} + ${at.index}`, value)} }\n`;
    })
  }}
`;
}

/** Writes the gradients by keys and values. */
export function directGradKV(
  frame: Frame,
  { outputs }: { readonly outputs: { readonly k: boolean; readonly v: boolean } },
): string {
  const { keys, each, loads, shape, load, put, inputs: { grad, lse, delta, range } } = frame;
  const vOut = outputs.k ? "o1" : "o0", drops = shape.dropout !== undefined;
  const four = (value: (row: string) => string): string =>
    `vec4f(${[0, 1, 2, 3].map((k) => value(`h${k}`)).join(", ")})`;
  const bounds = (lane: string): string =>
    `vec4i(${[0, 1, 2, 3].map((k) => `${range(`j${k}`)}.${lane}`).join(", ")})`;
  const weigh = (m: number): string =>
    `${finish(frame, { m, slope: outputs.k })}    let p${m} = select(vec4f(), exp2(s${m} - lse), ${
      keyVisible(frame, m)
    });\n` +
    (drops ? `    let m${m} = ${dropsOfRows(frame, ["h0", "h1", "h2", "h3"], `row${m}`)};\n` : "") +
    (drops && outputs.v ? `    let w${m} = p${m} * m${m};\n` : "") +
    (outputs.k
      ? `    let ds${m} = p${m} * (dp${m}${drops ? ` * m${m}` : ""} - delta)${timesSlope(frame, `c${m}`)};\n`
      : "");
  const query = (i: string): string => queryRow(frame, { i, count: shape.time });
  const stream = streamRows({
    address: (i) => `${query(i)} * ${loads}u`,
    body: products(frame, { name: "s", own: "k", stream: "a0" }) +
      (outputs.k ? products(frame, { name: "dp", own: "v", stream: grad }) : "") +
      repeat(4, (k) => `    let h${k} = ${query(`j${k}`)};\n`) +
      `    let lse = ${four(lse)} * ${f32(Math.LOG2E)};\n` +
      (outputs.k ? `    let delta = ${four(delta)};\n` : "") +
      (shape.ranges ? `    let starts = ${bounds("x")};\n    let ends = ${bounds("y")};\n` : "") +
      repeat(each, weigh) +
      (outputs.v ? accumulate(frame, { own: "z", weights: drops ? "w" : "p", stream: grad }) : "") +
      (outputs.k ? accumulate(frame, { own: "y", weights: "ds", stream: "a0" }) : ""),
  });
  const open = (m: number, at: Place): string =>
    at.set(`k${m}`, `${load("a1", `at${m} + ${at.index}`)} * ${scoreFactor(frame)}`) +
    (outputs.k ? at.set(`v${m}`, load("a2", `at${m} + ${at.index}`)) + at.zero(`y${m}`) : "") +
    (outputs.v ? at.zero(`z${m}`) : "");
  const close = (m: number, { index, of }: Place): string =>
    `  if (row${m} == wanted${m}) {${
      outputs.k ? ` ${put("o0", `to${m} + ${index}`, `${of(`y${m}`)} * ${f32(shape.scale)}`)}` : ""
    }${outputs.v ? ` ${put(vOut, `to${m} + ${index}`, of(`z${m}`))}` : ""} }\n`;
  const own = ["k", ...(outputs.k ? ["v", "y"] : []), ...(outputs.v ? ["z"] : [])];
  return `${directMain(frame, { reversed: false })}${keyRange(frame)}${ownRows(frame)}${
    repeat(each, (m) =>
      `  let at${m} = ${keyAddress(frame, `row${m}`)};
  let to${m} = ${queryRow(frame, { i: `row${m}`, count: keys })} * ${loads}u;\n`)
  }${registers(frame, own, open)}${stream}${registers(frame, [], close)}}
`;
}

/** Opens `main`; where there are loops over a row, with a zero that a compiler cannot see, as it would unroll them. */
function directMain(frame: Frame, options: { readonly reversed: boolean }): string {
  return declareDrops(frame) + attentionMain(frame, options) + (frame.unrolled ? "" : NONE);
}

/** Declares the rows of a thread: `wanted{m}`, and `row{m}`, the same clamped to the last row. */
function ownRows({ rows, each, count }: Frame): string {
  return repeat(
    each,
    (m) =>
      `  let wanted${m} = first + lid + ${m * rows / each}u;\n  let row${m} = min(wanted${m}, ${
        count - 1
      }u);\n`,
  );
}

/** Declares the queries of a thread, their positions and addresses. */
function ownQueries(frame: Frame): string {
  return ownRows(frame) +
    repeat(
      frame.each,
      (m) =>
        `${
          frame.shape.ranges
            ? `  let seen${m} = ${frame.inputs.range(`row${m}`)};\n`
            : `  let position${m} = min(i32(row${m}) + offset, hi - 1);\n`
        }  let query${m} = ${queryRow(frame, { i: `row${m}`, count: frame.count })};
  let at${m} = query${m} * ${frame.loads}u;\n`,
    );
}

/** Turns the products `s{m}` of a thread's row and the four streamed rows into scores to base 2. */
function finish(frame: Frame, { m, slope }: { readonly m: number; readonly slope: boolean }): string {
  const { pass, inputs: { bias } } = frame;
  const place = (j: string): string =>
    pass === "gradKV" ? biasIndex(frame, j, `row${m}`) : biasIndex(frame, `row${m}`, j);
  const value = `vec4f(${[0, 1, 2, 3].map((k) => `${bias}[${place(`j${k}`)}]`).join(", ")})`;
  return finishScore(frame, { name: `s${m}`, type: "vec4f", slope: slope ? `c${m}` : null, value });
}

/** WGSL for which of the keys j to j + 3 are visible to query row m of a thread. */
function queryVisible({ causal, window, shape }: Frame, m: number): string {
  const at = "vec4i(j, j + 1, j + 2, j + 3)";
  if (shape.ranges) return `(${at} >= vec4i(seen${m}.x)) & (${at} < vec4i(seen${m}.y))`;
  const tests = [
    causal ? `(${at} <= vec4i(position${m}))` : `(${at} < vec4i(hi))`,
    ...(window === null ? [] : [`(${at} > vec4i(position${m} - ${window}))`]),
  ];
  return tests.join(" & ");
}

/** WGSL for which of the queries j to j + 3 see key row m of a thread. */
function keyVisible({ causal, window, shape }: Frame, m: number): string {
  const at = "vec4i(j, j + 1, j + 2, j + 3)";
  if (shape.ranges) {
    const key = `vec4i(i32(row${m}))`;
    return `(${at} < vec4i(hi)) & (${key} >= starts) & (${key} < ends)`;
  }
  const tests = [
    `(${at} < vec4i(hi))`,
    ...(causal ? [`(${at} >= vec4i(i32(row${m}) - offset))`] : []),
    ...(window === null ? [] : [`(${at} < vec4i(i32(row${m}) + ${window} - offset))`]),
  ];
  return tests.join(" & ");
}

/**
 * Loops over the streamed rows, four at a time. The body may use `j` (i32), the first of the four, `j0` to `j3` (u32),
 * each at most `hi - 1`, and `r0` to `r3`, their first loads.
 */
function streamRows(
  { address, body }: { readonly address: (row: string) => string; readonly body: string },
): string {
  return `  for (var j = lo; j < hi; j += 4) {
${
    repeat(4, (k) =>
      `    let j${k} = u32(min(j + ${k}, hi - 1));\n    let r${k} = ${address(`j${k}`)};\n`)
  }${body}  }
`;
}

/** Declares `name0`, `name1`, ... for each row of the thread: its products with the four streamed rows. */
function products(
  frame: Frame,
  { name, own, stream }: { readonly name: string; readonly own: string; readonly stream: string },
): string {
  const { each, type, sum, load: read } = frame;
  const start = (m: number): string => repeat(4, (k) => `    var ${name}${m}_${k} = ${type}();\n`);
  const add = (m: number, k: number, { of }: Place): string =>
    ` ${name}${m}_${k} = fma(${of(`${own}${m}`)}, x, ${name}${m}_${k});`;
  const load = (k: number, at: Place): string =>
    `    { let x = ${read(stream, `r${k} + ${at.index}`)};${repeat(each, (m) => add(m, k, at))} }\n`;
  const whole = (m: number): string =>
    `    var ${name}${m} = vec4f(${[0, 1, 2, 3].map((k) => sum(`${name}${m}_${k}`)).join(", ")});\n`;
  const all = frame.unrolled
    ? repeat(4, (k) => eachLoad(frame, (at) => load(k, at)))
    : eachLoad(frame, (at) => repeat(4, (k) => load(k, at)));
  return repeat(each, start) + all + repeat(each, whole);
}

/** Adds the four streamed rows, weighted, to own registers. */
function accumulate(
  frame: Frame,
  { own, weights, stream }: { readonly own: string; readonly weights: string; readonly stream: string },
): string {
  const { each, type, load } = frame;
  const add = (m: number, k: number, { of }: Place): string => {
    const sum = of(`${own}${m}`);
    return ` ${sum} = fma(${type}(${weights}${m}.${"xyzw"[k]}), x, ${sum});`;
  };
  return eachLoad(frame, (at) =>
    repeat(
      4,
      (k) => `    { let x = ${load(stream, `r${k} + ${at.index}`)};${repeat(each, (m) => add(m, k, at))} }\n`,
    ));
}

/** A load of a row. */
interface Place {
  /** WGSL for its number. */
  readonly index: string;
  /** WGSL for the register of it in `name`. */
  readonly of: (name: string) => string;
  /** Declares the register, or sets it where it is in an array. */
  readonly set: (name: string, value: string) => string;
  /** Declares the register of a sum, unless it is in an array, which is zero at first. */
  readonly zero: (name: string) => string;
}

/** Loads of an iteration, where there is a loop over those of a row. */
const LOOPED = 4;

/** Writes text for every load of a row: all of them, or a loop over most of them. */
function eachLoad({ loads, type, unrolled }: Frame, body: (at: Place) => string): string {
  if (unrolled) {
    const place = (i: number): Place => ({
      index: `${i}u`,
      of: (name) => `${name}_${i}`,
      set: (name, value) => `  let ${name}_${i} = ${value};\n`,
      zero: (name) => `  var ${name}_${i} = ${type}();\n`,
    });
    return repeat(loads, (i) => body(place(i)));
  }
  const place = (index: string): Place => ({
    index,
    of: (name) => `${name}[${index}]`,
    set: (name, value) => `  ${name}[${index}] = ${value};\n`,
    zero: () => "",
  });
  const rest = loads % LOOPED, looped = loads - rest;
  return `    for (var d = 0u; d < ${looped}u + none; d += ${LOOPED}u) {\n${
    repeat(LOOPED, (k) => body(place(`d + ${k}u`)))
  }    }\n${repeat(rest, (k) => body(place(`${looped + k}u`)))}`;
}

/** Writes text for every register of every row of a thread; `names` are those of its arrays, where there is a loop. */
function registers(frame: Frame, names: readonly string[], body: (m: number, at: Place) => string): string {
  const { each, loads, type, unrolled } = frame;
  const declare = (m: number): string =>
    unrolled ? "" : names.map((name) => `  var ${name}${m}: array<${type}, ${loads}>;\n`).join("");
  return repeat(each, (m) => declare(m) + eachLoad(frame, (at) => body(m, at)));
}
