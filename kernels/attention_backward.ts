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
  ownIndex,
  products,
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
  const { keys, type, own, causal, loads } = frame;
  const streams = ["a1", "a2"];
  return {
    name: `attention_grad_q ${batch}x${time}x${heads}x${dim}`,
    grid: attentionGrid(frame, heads),
    flops: 6 * dim * visiblePairs(frame),
    code: `${storage([type, type, type, type, "f32", "f32"], [type])}${
      attentionMain(frame, { streams, exchanged: ["s", "dp"], heads, reversed: causal })
    }${queryRange(frame, `${keys - time}`)}
  let query = (batch * ${time}u + row) * ${heads}u + head;
  let at = query * ${loads}u;
  let lse = a4[query] * ${f32(Math.LOG2E)};
  let delta = a5[query];
${repeat(own, (i) => `  let q${i} = a0[at + ${ownIndex(frame, i)}] * ${f32(scale * Math.LOG2E)};\n`)}${
      repeat(own, (i) => `  let g${i} = a3[at + ${ownIndex(frame, i)}];\n`)
    }${repeat(own, (i) => `  var y${i} = ${type}();\n`)}
${
      streamRows(frame, {
        streams,
        address: (j) => keyAddress(frame, j),
        body: (read) =>
          `${products(frame, { name: "s", own: "q", stream: "a1", read })}${
            products(frame, { name: "dp", own: "g", stream: "a2", read })
          }${exchange(frame, ["s", "dp"])}
    let ds = select(vec4f(), exp2(s - lse) * (dp - delta), ${queryVisible(frame, false)});
${accumulate(frame, { own: "y", weights: "ds", stream: "a1", read })}`,
      })
    }
  if (row != wanted) { return; }
${repeat(own, (i) => `  o0[at + ${ownIndex(frame, i)}] = y${i} * ${f32(scale)};\n`)}}
`,
  };
}

/** Options of {@link attentionGradKV}. */
export interface AttentionGradKVOptions extends AttentionShape, AttentionTiling {
  /** Which gradients are wanted, one at least. */
  readonly outputs: { readonly k: boolean; readonly v: boolean };
}

/**
 * Gradients of attention by the keys, the values or both, summed over the query heads of each key head.
 *
 * Bindings where the gradient by the keys is wanted: a0 `q[B,T,H,D]`, a1 `k[B,S,G,D]`, a2 `v[B,S,G,D]`,
 * a3 `dOut[B,T,H,D]`, a4 `lse[B,T,H]`, a5 `delta[B,T,H]` as in {@link attentionGradQ}; o0 `dk[B,S,G,D]`, and o1
 * `dv[B,S,G,D]` if wanted too. Values only: a0 `q`, a1 `k`, a2 `dOut`, a3 `lse`; o0 `dv`.
 *
 * Source: Dao et al. 2022, algorithm 4.
 *
 * @param options Sizes, wanted outputs and tuning; `attentionTiling` recommends the tuning
 * @returns The kernel
 * @throws RangeError if nothing is wanted, or sizes or tuning do not fit
 */
export function attentionGradKV(options: AttentionGradKVOptions): Kernel {
  const { batch, time, heads, kvHeads, dim, scale, outputs } = options;
  if (!outputs.k && !outputs.v) {
    throw new RangeError(`Cannot make attention_grad_kv as "outputs" must want one: none`);
  }
  const frame = attentionFrame(options, { tiling: options, count: options.keys ?? time });
  const { keys, type, own, loads, ratio } = frame;
  const [grad, lse] = outputs.k ? ["a3", "a4"] : ["a2", "a3"];
  const inputs = outputs.k ? [type, type, type, type, "f32", "f32"] : [type, type, type, "f32"];
  const written = [...(outputs.k ? [type] : []), ...(outputs.v ? [type] : [])];
  const streams = ["a0", grad];
  const exchanged = outputs.k ? ["s", "dp"] : ["s"];
  const vOut = outputs.k ? "o1" : "o0";
  const four = (buffer: string): string => `vec4f(${[0, 1, 2, 3].map((k) => `${buffer}[h${k}]`).join(", ")})`;
  const which = [...(outputs.k ? ["k"] : []), ...(outputs.v ? ["v"] : [])].join("");
  const stream = streamRows(frame, {
    streams,
    address: (i) => `((batch * ${time}u + ${i}) * ${heads}u + queryHead) * ${loads}u`,
    body: (read) =>
      `${products(frame, { name: "s", own: "k", stream: "a0", read })}${
        outputs.k ? products(frame, { name: "dp", own: "v", stream: grad, read }) : ""
      }${exchange(frame, exchanged)}${
        repeat(4, (k) => `    let h${k} = (batch * ${time}u + j${k}) * ${heads}u + queryHead;\n`)
      }    let p = select(vec4f(), exp2(s - ${four(lse)} * ${f32(Math.LOG2E)}), ${keyVisible(frame)});
${outputs.v ? accumulate(frame, { own: "z", weights: "p", stream: grad, read }) : ""}${
        outputs.k
          ? `    let ds = p * (dp - ${four("a5")});\n${
            accumulate(frame, { own: "y", weights: "ds", stream: "a0", read })
          }`
          : ""
      }`,
  });
  return {
    name: `attention_grad_${which} ${batch}x${keys}x${kvHeads}x${dim}`,
    grid: attentionGrid(frame, kvHeads),
    flops: (outputs.k ? (outputs.v ? 8 : 6) : 4) * dim * visiblePairs(frame),
    code: `${storage(inputs, written)}${
      attentionMain(frame, { streams, exchanged, heads: kvHeads, reversed: false })
    }${keyRange(frame)}
  let at = ((batch * ${keys}u + row) * ${kvHeads}u + head) * ${loads}u;
${repeat(own, (i) => `  let k${i} = a1[at + ${ownIndex(frame, i)}] * ${f32(scale * Math.LOG2E)};\n`)}${
      outputs.k
        ? repeat(own, (i) => `  let v${i} = a2[at + ${ownIndex(frame, i)}];\n  var y${i} = ${type}();\n`)
        : ""
    }${outputs.v ? repeat(own, (i) => `  var z${i} = ${type}();\n`) : ""}
  for (var turn = 0u; turn < ${ratio}u; turn += 1u) {
  let queryHead = head * ${ratio}u + turn;
${stream}  }
  if (row != wanted) { return; }
${outputs.k ? repeat(own, (i) => `  o0[at + ${ownIndex(frame, i)}] = y${i} * ${f32(scale)};\n`) : ""}${
      outputs.v ? repeat(own, (i) => `  ${vOut}[at + ${ownIndex(frame, i)}] = z${i};\n`) : ""
    }}
`,
  };
}

/** WGSL for the row of a key thread, and the queries `lo` to `hi` that see a key of its block. */
function keyRange({ rows, keys, causal, window, shape }: Frame): string {
  const offset = keys - shape.time;
  const end = `i32(min(first + ${rows}u, ${keys}u))`;
  return `  let first = block * ${rows}u;
  let wanted = first + lane;
  let row = min(wanted, ${keys - 1}u);
  let lo = ${causal ? `max(0, i32(first) - ${offset})` : "0"};
  let hi = ${window === null ? `${shape.time}` : `min(${shape.time}, ${end} + ${window - 1 - offset})`};`;
}

/** WGSL for which of the queries j to j + 3 see the key of a thread. */
function keyVisible({ keys, causal, window, shape }: Frame): string {
  const offset = keys - shape.time;
  const at = "vec4i(j, j + 1, j + 2, j + 3)";
  const tests = [
    `(${at} < vec4i(hi))`,
    ...(causal ? [`(${at} >= vec4i(i32(row) - ${offset}))`] : []),
    ...(window === null ? [] : [`(${at} < vec4i(i32(row) + ${window - offset}))`]),
  ];
  return tests.join(" & ");
}
