/**
 * Attention with an online softmax: no T x S memory, any head size, grouped key heads, causal and sliding windows.
 *
 * @module
 */

import { f32, type Kernel, repeat, storage } from "./kernel.ts";
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
import { LOWEST } from "./rows.ts";

/** Options of {@link attention}. */
export interface AttentionOptions extends AttentionShape, AttentionTiling {
  /** `"input"` reads the position of query 0 from a buffer: one kernel for a key cache of S slots, filled step by step. */
  readonly offset?: "input";
}

/**
 * Weighs values by the softmax of scaled scores.
 *
 * Query i at position p = `i + S - T` sees key j if not `causal` or `j <= p`, and with `window` if `j > p - window`.
 *
 * Bindings: a0 `q[B,T,H,D]`, a1 `k[B,S,G,D]`, a2 `v[B,S,G,D]`, with `offset: "input"` a3 `offset[1]` u32 (then
 * p = `i + offset`; keys after the last position are not read, and the attention must be causal);
 * o0 `out[B,T,H,D]`, o1 `lse[B,T,H]`, the natural logarithm of the sum of exponentials of the scaled scores.
 *
 * Source: Milakov and Gimelshein 2018, algorithm 3; Dao et al. 2022, algorithm 1.
 *
 * @param options Sizes and tuning; `attentionTiling` recommends the tuning
 * @returns The kernel
 * @throws RangeError if sizes or tuning do not fit
 */
export function attention(options: AttentionOptions): Kernel {
  const { batch, time, heads, dim, scale } = options;
  const frame = attentionFrame(options, { tiling: options, count: time });
  const { keys, type, own, causal, loads } = frame;
  const cached = options.offset === "input";
  if (cached && !causal) {
    throw new RangeError(`Cannot read an offset as "causal" must be true: ${options.causal}`);
  }
  const streams = ["a1", "a2"];
  const names = [`${batch}x${time}`, ...(keys === time ? [] : [keys]), `${heads}x${dim}`];
  const inputs = [type, type, type, ...(cached ? ["u32"] : [])];
  return {
    name: `attention ${names.join("x")}`,
    grid: attentionGrid(frame, heads),
    flops: 4 * dim * visiblePairs(frame),
    code: `${storage(inputs, [type, "f32"])}${
      attentionMain(frame, { streams, exchanged: ["s"], heads, reversed: causal })
    }${queryRange(frame, cached ? "i32(a3[0])" : `${keys - time}`)}
  let at = ((batch * ${time}u + row) * ${heads}u + head) * ${loads}u;
${repeat(own, (i) => `  let q${i} = a0[at + ${ownIndex(frame, i)}] * ${f32(scale * Math.LOG2E)};\n`)}${
      repeat(own, (i) => `  var y${i} = ${type}();\n`)
    }  var high = ${LOWEST};
  var total = 0.0f;
${
      streamRows(frame, {
        streams,
        address: (j) => keyAddress(frame, j),
        body: (read) =>
          `${products(frame, { name: "s", own: "q", stream: "a1", read })}${exchange(frame, ["s"])}
    let visible = ${queryVisible(frame, cached)};
    s = select(vec4f(${LOWEST}), s, visible);
    let next = max(high, max(max(s.x, s.y), max(s.z, s.w)));
    let p = select(vec4f(), exp2(s - next), visible);
    let fade = exp2(high - next);
    high = next;
    total = fma(total, fade, dot(p, vec4f(1.0f)));
${repeat(own, (i) => `    y${i} *= fade;\n`)}${
            accumulate(frame, { own: "y", weights: "p", stream: "a2", read })
          }`,
      })
    }
  if (row != wanted) { return; }
  let share = 1.0f / total;
${repeat(own, (i) => `  o0[at + ${ownIndex(frame, i)}] = y${i} * share;\n`)}
  ${frame.split === 1 ? "" : "if (part == 0u) { "}o1[at / ${loads}u] = (high + log2(total)) * ${
      f32(Math.LN2)
    };${frame.split === 1 ? "" : " }"}
}
`,
  };
}

/** WGSL for the row of a query thread, its position, and the keys `lo` to `hi` that its block sees. */
export function queryRange(frame: Frame, offset: string): string {
  const { rows, keys, causal, window } = frame;
  const { time } = frame.shape;
  const end = `i32(min(first + ${rows}u, ${time}u))`;
  return `  let first = block * ${rows}u;
  let wanted = first + lane;
  let row = min(wanted, ${time - 1}u);
  let offset = ${offset};
  let position = i32(row) + offset;
  let lo = ${window === null ? "0" : `max(0, i32(first) + offset - ${window - 1})`};
  let hi = ${causal ? `min(${keys}, offset + ${end})` : `${keys}`};`;
}

/** WGSL for the first load of key `j`. */
export function keyAddress({ keys, ratio, loads, shape }: Frame, j: string): string {
  const head = ratio === 1 ? "head" : `head / ${ratio}u`;
  return `((batch * ${keys}u + ${j}) * ${shape.kvHeads}u + ${head}) * ${loads}u`;
}

/** WGSL for which of the keys j to j + 3 a query thread sees. */
export function queryVisible({ causal, window }: Frame, cached: boolean): string {
  const at = "vec4i(j, j + 1, j + 2, j + 3)";
  const tests = [
    ...(causal ? [`(${at} <= vec4i(position))`] : []),
    ...(!causal || cached ? [`(${at} < vec4i(hi))`] : []),
    ...(window === null ? [] : [`(${at} > vec4i(position - ${window}))`]),
  ];
  return tests.join(" & ");
}
