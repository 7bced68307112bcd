/**
 * Gradients of attention without atomics: one kernel walks queries, one walks keys; both recompute the weights from
 * the saved logarithm, `p = exp(s - lse)`.
 *
 * @module
 */

import { f32, type Kernel, repeat, storage } from "./kernel.ts";
import { keyAddress, queryRange, queryVisible } from "./attention.ts";
import {
  accumulate,
  attentionFrame,
  attentionGrid,
  attentionMain,
  type AttentionShape,
  type AttentionTiling,
  exchange,
  type Frame,
  ownRows,
  products,
  registers,
  streamRows,
  visiblePairs,
} from "./attention_tiles.ts";

/** Options of {@link attentionGradQ}. */
export interface AttentionGradOptions extends AttentionShape, AttentionTiling {}

/**
 * Gradient of attention by the queries.
 *
 * Bindings: a0 `q[B,T,H,D]`, a1 `k[B,S,G,D]`, a2 `v[B,S,G,D]`, a3 `dOut[B,T,H,D]`, a4 `lse[B,T,H]`,
 * a5 `delta[B,T,H]`, the sum over D of dOut * out; o0 `dq[B,T,H,D]`.
 *
 * Source: Dao et al. 2022, algorithm 4.
 *
 * @param options Sizes and tuning; `attentionTiling` recommends the tuning
 * @returns The kernel
 * @throws RangeError if sizes or tuning do not fit
 */
export function attentionGradQ(options: AttentionGradOptions): Kernel {
  const { batch, time, heads, dim, scale } = options;
  const frame = attentionFrame(options, { tiling: options, count: time });
  const { keys, type, each, causal, loads } = frame;
  const streams = ["a1", "a2"];
  const open = (m: number): string =>
    `  let query${m} = (batch * ${time}u + row${m}) * ${heads}u + head;
  let at${m} = query${m} * ${loads}u;
  let lse${m} = a4[query${m}] * ${f32(Math.LOG2E)};
  let delta${m} = a5[query${m}];
`;
  const slope = (m: number): string =>
    `    let ds${m} = select(vec4f(), exp2(s${m} - lse${m}) * (dp${m} - delta${m}), ${
      queryVisible(frame, { cached: false, m })
    });\n`;
  return {
    name: `attention_grad_q ${batch}x${time}x${heads}x${dim}`,
    grid: attentionGrid(frame, heads),
    flops: 6 * dim * visiblePairs(frame),
    code: `${storage([type, type, type, type, "f32", "f32"], [type])}${
      attentionMain(frame, { streams, exchanged: ["s", "dp"], heads, reversed: causal })
    }${queryRange(frame, `${keys - time}`)}${repeat(each, open)}${
      registers(frame, (m, i, x) =>
        `  let q${m}_${i} = a0[at${m} + ${x}] * ${f32(scale * Math.LOG2E)};
  let g${m}_${i} = a3[at${m} + ${x}];
  var y${m}_${i} = ${type}();
`)
    }${
      streamRows(frame, {
        streams,
        address: (j) => keyAddress(frame, j),
        body: (read) =>
          products(frame, { name: "s", own: "q", stream: "a1", read }) +
          products(frame, { name: "dp", own: "g", stream: "a2", read }) + exchange(frame, ["s", "dp"]) +
          repeat(each, slope) + accumulate(frame, { own: "y", weights: "ds", stream: "a1", read }),
      })
    }${
      registers(frame, (m, i, x) =>
        `  if (row${m} == wanted${m}) { o0[at${m} + ${x}] = y${m}_${i} * ${f32(scale)}; }\n`)
    }}
`,
  };
}

/** Options of {@link attentionGradKV}. */
export interface AttentionGradKVOptions extends AttentionShape, AttentionTiling {
  /** Which gradients are wanted, one at least. */
  readonly outputs: { readonly k: boolean; readonly v: boolean };
}

/**
 * Gradients of attention by the keys, the values or both: the share of each query head, to be added up over the query
 * heads of a key head. So the grid is as large as that of the queries, however few key heads there are.
 *
 * Bindings where the gradient by the keys is wanted: a0 `q[B,T,H,D]`, a1 `k[B,S,G,D]`, a2 `v[B,S,G,D]`,
 * a3 `dOut[B,T,H,D]`, a4 `lse[B,T,H]`, a5 `delta[B,T,H]` as in {@link attentionGradQ}; o0 `dk[B,S,H,D]`, and o1
 * `dv[B,S,H,D]` if wanted too. Values only: a0 `q`, a1 `k`, a2 `dOut`, a3 `lse`; o0 `dv`.
 *
 * Source: Dao et al. 2022, algorithm 4.
 *
 * @param options Sizes, wanted outputs and tuning; `attentionTiling` recommends the tuning
 * @returns The kernel
 * @throws RangeError if nothing is wanted, or sizes or tuning do not fit
 */
export function attentionGradKV(options: AttentionGradKVOptions): Kernel {
  const { batch, time, heads, dim, scale, outputs } = options;
  if (!outputs.k && !outputs.v) {
    throw new RangeError(`Cannot make attention_grad_kv as "outputs" must want one: none`);
  }
  const frame = attentionFrame(options, { tiling: options, count: options.keys ?? time });
  const { keys, type, each, loads } = frame;
  const [grad, lse] = outputs.k ? ["a3", "a4"] : ["a2", "a3"];
  const inputs = outputs.k ? [type, type, type, type, "f32", "f32"] : [type, type, type, "f32"];
  const written = [...(outputs.k ? [type] : []), ...(outputs.v ? [type] : [])];
  const streams = ["a0", grad];
  const exchanged = outputs.k ? ["s", "dp"] : ["s"];
  const vOut = outputs.k ? "o1" : "o0";
  const four = (buffer: string): string => `vec4f(${[0, 1, 2, 3].map((k) => `${buffer}[h${k}]`).join(", ")})`;
  const which = [...(outputs.k ? ["k"] : []), ...(outputs.v ? ["v"] : [])].join("");
  const weigh = (m: number): string =>
    `    let p${m} = select(vec4f(), exp2(s${m} - lse), ${keyVisible(frame, m)});\n` +
    (outputs.k ? `    let ds${m} = p${m} * (dp${m} - delta);\n` : "");
  const stream = streamRows(frame, {
    streams,
    address: (i) => `((batch * ${time}u + ${i}) * ${heads}u + head) * ${loads}u`,
    body: (read) =>
      products(frame, { name: "s", own: "k", stream: "a0", read }) +
      (outputs.k ? products(frame, { name: "dp", own: "v", stream: grad, read }) : "") +
      exchange(frame, exchanged) +
      repeat(4, (k) => `    let h${k} = (batch * ${time}u + j${k}) * ${heads}u + head;\n`) +
      `    let lse = ${four(lse)} * ${f32(Math.LOG2E)};\n` +
      (outputs.k ? `    let delta = ${four("a5")};\n` : "") +
      repeat(each, weigh) +
      (outputs.v ? accumulate(frame, { own: "z", weights: "p", stream: grad, read }) : "") +
      (outputs.k ? accumulate(frame, { own: "y", weights: "ds", stream: "a0", read }) : ""),
  });
  const open = (m: number, i: number, x: string): string =>
    `  let k${m}_${i} = a1[at${m} + ${x}] * ${f32(scale * Math.LOG2E)};\n` +
    (outputs.k ? `  let v${m}_${i} = a2[at${m} + ${x}];\n  var y${m}_${i} = ${type}();\n` : "") +
    (outputs.v ? `  var z${m}_${i} = ${type}();\n` : "");
  const close = (m: number, i: number, x: string): string =>
    `  if (row${m} == wanted${m}) {${outputs.k ? ` o0[to${m} + ${x}] = y${m}_${i} * ${f32(scale)};` : ""}${
      outputs.v ? ` ${vOut}[to${m} + ${x}] = z${m}_${i};` : ""
    } }\n`;
  return {
    name: `attention_grad_${which} ${batch}x${keys}x${heads}x${dim}`,
    grid: attentionGrid(frame, heads),
    flops: (outputs.k ? (outputs.v ? 8 : 6) : 4) * dim * visiblePairs(frame),
    code: `${storage(inputs, written)}${
      attentionMain(frame, { streams, exchanged, heads, reversed: false })
    }${keyRange(frame)}${
      repeat(each, (m) =>
        `  let at${m} = ${keyAddress(frame, `row${m}`)};
  let to${m} = ((batch * ${keys}u + row${m}) * ${heads}u + head) * ${loads}u;\n`)
    }${registers(frame, open)}${stream}${registers(frame, close)}}
`,
  };
}

/** WGSL for the key rows of a thread, and the queries `lo` to `hi` that see a key of the block. */
function keyRange(frame: Frame): string {
  const { rows, keys, causal, window, shape } = frame;
  const offset = keys - shape.time;
  const end = `i32(min(first + ${rows}u, ${keys}u))`;
  return `${ownRows(frame, keys)}  let lo = ${causal ? `max(0, i32(first) - ${offset})` : "0"};
  let hi = ${window === null ? `${shape.time}` : `min(${shape.time}, ${end} + ${window - 1 - offset})`};
`;
}

/** WGSL for which of the queries j to j + 3 see key row m of a thread. */
function keyVisible({ keys, causal, window, shape }: Frame, m: number): string {
  const offset = keys - shape.time;
  const at = "vec4i(j, j + 1, j + 2, j + 3)";
  const tests = [
    `(${at} < vec4i(hi))`,
    ...(causal ? [`(${at} >= vec4i(i32(row${m}) - ${offset}))`] : []),
    ...(window === null ? [] : [`(${at} < vec4i(i32(row${m}) + ${window - offset}))`]),
  ];
  return tests.join(" & ");
}
