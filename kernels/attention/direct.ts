/**
 * Direct attention kernels, for software adapters: each thread keeps its own rows in registers and reads the rows of the
 * other side from storage, four at a time. No workgroup memory, no barriers.
 *
 * @module
 */

import { f32, repeat } from "../kernel.ts";
import { attentionMain, type Frame, keyAddress, queryRow } from "./frame.ts";
import { keyRange, queryRange } from "./ranges.ts";
import { biasIndex, finishScore, scoreFactor, timesSlope } from "./scores.ts";
import { lseOf, shareOf } from "./softmax.ts";
import { LOWEST } from "../rows.ts";

/** Writes the forward kernel. */
export function directForward(frame: Frame): string {
  const { type, each, causal, loads, load, put } = frame;
  const updateSoftmax = (m: number): string =>
    `${finish(frame, { m, slope: false })}    let visible${m} = ${queryVisible(frame, m)};
    s${m} = select(vec4f(${LOWEST}), s${m}, visible${m});
    let next${m} = max(high${m}, max(max(s${m}.x, s${m}.y), max(s${m}.z, s${m}.w)));
    let p${m} = select(vec4f(), exp2(s${m} - next${m}), visible${m});
    let fade${m} = exp2(high${m} - next${m});
    high${m} = next${m};
    total${m} = fma(total${m}, fade${m}, dot(p${m}, vec4f(1.0f)));
`;
  const write = (m: number): string =>
    `  if (row${m} == wanted${m}) {
    let share = ${shareOf(frame, `row${m}`, `total${m}`)};
${repeat(loads, (i) => `    ${put("o0", `at${m} + ${i}u`, `y${m}_${i} * share`)}\n`)}    o1[query${m}] = ${
      lseOf(frame, `row${m}`, `high${m} + log2(total${m})`)
    };
  }
`;
  return `${attentionMain(frame, { reversed: causal })}${queryRange(frame)}${ownQueries(frame)}${
    registers(frame, (m, i) =>
      `  let q${m}_${i} = ${load("a0", `at${m} + ${i}u`)} * ${scoreFactor(frame)};
  var y${m}_${i} = ${type}();\n`)
  }${repeat(each, (m) => `  var high${m} = ${LOWEST};\n  var total${m} = 0.0f;\n`)}${
    streamRows({
      address: (j) => keyAddress(frame, j),
      body: products(frame, { name: "s", own: "q", stream: "a1" }) + repeat(each, updateSoftmax) +
        registers(frame, (m, i) => `    y${m}_${i} *= fade${m};\n`) +
        accumulate(frame, { own: "y", weights: "p", stream: "a2" }),
    })
  }${repeat(each, write)}}
`;
}

/** Writes the gradient by the queries. */
export function directGradQ(frame: Frame): string {
  const { type, each, causal, shape, load, put, inputs: { lse, delta } } = frame;
  const open = (m: number): string =>
    `  let lse${m} = ${lse(`query${m}`)} * ${f32(Math.LOG2E)};\n  let delta${m} = ${delta(`query${m}`)};\n`;
  const slope = (m: number): string =>
    `${
      finish(frame, { m, slope: true })
    }    let ds${m} = select(vec4f(), exp2(s${m} - lse${m}) * (dp${m} - delta${m})${
      timesSlope(frame, `c${m}`)
    }, ${queryVisible(frame, m)});\n`;
  return `${attentionMain(frame, { reversed: causal })}${queryRange(frame)}${ownQueries(frame)}${
    repeat(each, open)
  }${
    registers(frame, (m, i) =>
      `  let q${m}_${i} = ${load("a0", `at${m} + ${i}u`)} * ${scoreFactor(frame)};
  let g${m}_${i} = ${load("a3", `at${m} + ${i}u`)};
  var y${m}_${i} = ${type}();\n`)
  }${
    streamRows({
      address: (j) => keyAddress(frame, j),
      body: products(frame, { name: "s", own: "q", stream: "a1" }) +
        products(frame, { name: "dp", own: "g", stream: "a2" }) + repeat(each, slope) +
        accumulate(frame, { own: "y", weights: "ds", stream: "a1" }),
    })
  }${
    registers(frame, (m, i) =>
      `  if (row${m} == wanted${m}) { ${put("o0", `at${m} + ${i}u`, `y${m}_${i} * ${f32(shape.scale)}`)} }\n`)
  }}
`;
}

/** Writes the gradients by keys and values. */
export function directGradKV(
  frame: Frame,
  { outputs }: { readonly outputs: { readonly k: boolean; readonly v: boolean } },
): string {
  const { keys, type, each, loads, shape, load, put, inputs: { grad, lse, delta, range } } = frame;
  const vOut = outputs.k ? "o1" : "o0";
  const four = (value: (row: string) => string): string =>
    `vec4f(${[0, 1, 2, 3].map((k) => value(`h${k}`)).join(", ")})`;
  const bounds = (lane: string): string =>
    `vec4i(${[0, 1, 2, 3].map((k) => `${range(`j${k}`)}.${lane}`).join(", ")})`;
  const weigh = (m: number): string =>
    `${finish(frame, { m, slope: outputs.k })}    let p${m} = select(vec4f(), exp2(s${m} - lse), ${
      keyVisible(frame, m)
    });\n` +
    (outputs.k ? `    let ds${m} = p${m} * (dp${m} - delta)${timesSlope(frame, `c${m}`)};\n` : "");
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
      (outputs.v ? accumulate(frame, { own: "z", weights: "p", stream: grad }) : "") +
      (outputs.k ? accumulate(frame, { own: "y", weights: "ds", stream: "a0" }) : ""),
  });
  const open = (m: number, i: number): string =>
    `  let k${m}_${i} = ${load("a1", `at${m} + ${i}u`)} * ${scoreFactor(frame)};\n` +
    (outputs.k
      ? `  let v${m}_${i} = ${load("a2", `at${m} + ${i}u`)};\n  var y${m}_${i} = ${type}();\n`
      : "") +
    (outputs.v ? `  var z${m}_${i} = ${type}();\n` : "");
  const close = (m: number, i: number): string =>
    `  if (row${m} == wanted${m}) {${
      outputs.k ? ` ${put("o0", `to${m} + ${i}u`, `y${m}_${i} * ${f32(shape.scale)}`)}` : ""
    }${outputs.v ? ` ${put(vOut, `to${m} + ${i}u`, `z${m}_${i}`)}` : ""} }\n`;
  return `${attentionMain(frame, { reversed: false })}${keyRange(frame)}${ownRows(frame)}${
    repeat(each, (m) =>
      `  let at${m} = ${keyAddress(frame, `row${m}`)};
  let to${m} = ${queryRow(frame, { i: `row${m}`, count: keys })} * ${loads}u;\n`)
  }${registers(frame, open)}${stream}${registers(frame, close)}}
`;
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
  { each, type, sum, loads, load: read }: Frame,
  { name, own, stream }: { readonly name: string; readonly own: string; readonly stream: string },
): string {
  const start = (m: number): string => repeat(4, (k) => `    var ${name}${m}_${k} = ${type}();\n`);
  const add = (m: number, k: number, i: number): string =>
    ` ${name}${m}_${k} = fma(${own}${m}_${i}, x, ${name}${m}_${k});`;
  const load = (k: number, i: number): string =>
    `    { let x = ${read(stream, `r${k} + ${i}u`)};${repeat(each, (m) => add(m, k, i))} }\n`;
  const whole = (m: number): string =>
    `    var ${name}${m} = vec4f(${[0, 1, 2, 3].map((k) => sum(`${name}${m}_${k}`)).join(", ")});\n`;
  return repeat(each, start) + repeat(4, (k) => repeat(loads, (i) => load(k, i))) + repeat(each, whole);
}

/** Adds the four streamed rows, weighted, to own registers. */
function accumulate(
  { each, type, loads, load }: Frame,
  { own, weights, stream }: { readonly own: string; readonly weights: string; readonly stream: string },
): string {
  const add = (m: number, k: number, i: number): string =>
    ` ${own}${m}_${i} = fma(${type}(${weights}${m}.${"xyzw"[k]}), x, ${own}${m}_${i});`;
  return repeat(
    loads,
    (i) =>
      repeat(
        4,
        (k) => `    { let x = ${load(stream, `r${k} + ${i}u`)};${repeat(each, (m) => add(m, k, i))} }\n`,
      ),
  );
}

/** Writes text for every register of every row of a thread. */
function registers({ each, loads }: Frame, body: (m: number, i: number) => string): string {
  return repeat(each, (m) => repeat(loads, (i) => body(m, i)));
}
