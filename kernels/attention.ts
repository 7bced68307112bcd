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
  ownRows,
  products,
  registers,
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
  const { keys, type, own, each, split, causal, loads } = frame;
  const cached = options.offset === "input";
  if (cached && !causal) {
    throw new RangeError(`Cannot read an offset as "causal" must be true: ${options.causal}`);
  }
  const streams = ["a1", "a2"];
  const names = [`${batch}x${time}`, ...(keys === time ? [] : [keys]), `${heads}x${dim}`];
  const inputs = [type, type, type, ...(cached ? ["u32"] : [])];
  const soften = (m: number): string =>
    `    let visible${m} = ${queryVisible(frame, { cached, m })};
    s${m} = select(vec4f(${LOWEST}), s${m}, visible${m});
    let next${m} = max(high${m}, max(max(s${m}.x, s${m}.y), max(s${m}.z, s${m}.w)));
    let p${m} = select(vec4f(), exp2(s${m} - next${m}), visible${m});
    let fade${m} = exp2(high${m} - next${m});
    high${m} = next${m};
    total${m} = fma(total${m}, fade${m}, dot(p${m}, vec4f(1.0f)));
`;
  const write = (m: number): string =>
    `    let share = 1.0f / total${m};\n` +
    repeat(own, (i) => `    o0[at${m} + ${ownIndex(frame, i)}] = y${m}_${i} * share;\n`) +
    `    ${split === 1 ? "" : "if (part == 0u) { "}o1[at${m} / ${loads}u] = (high${m} + log2(total${m})) * ${
      f32(Math.LN2)
    };${split === 1 ? "" : " }"}\n`;
  return {
    name: `attention ${names.join("x")}`,
    grid: attentionGrid(frame, heads),
    flops: 4 * dim * visiblePairs(frame),
    code: `${storage(inputs, [type, "f32"])}${
      attentionMain(frame, { streams, exchanged: ["s"], heads, reversed: causal })
    }${queryRange(frame, cached ? "i32(a3[0])" : `${keys - time}`)}${
      repeat(each, (m) => `  let at${m} = ((batch * ${time}u + row${m}) * ${heads}u + head) * ${loads}u;\n`)
    }${
      registers(frame, (m, i, x) => `  let q${m}_${i} = a0[at${m} + ${x}] * ${f32(scale * Math.LOG2E)};\n`)
    }${registers(frame, (m, i) => `  var y${m}_${i} = ${type}();\n`)}${
      repeat(each, (m) => `  var high${m} = ${LOWEST};\n  var total${m} = 0.0f;\n`)
    }${
      streamRows(frame, {
        streams,
        address: (j) => keyAddress(frame, j),
        body: (read) =>
          products(frame, { name: "s", own: "q", stream: "a1", read }) + exchange(frame, ["s"]) +
          repeat(each, soften) + registers(frame, (m, i) => `    y${m}_${i} *= fade${m};\n`) +
          accumulate(frame, { own: "y", weights: "p", stream: "a2", read }),
      })
    }${repeat(each, (m) => `  if (row${m} == wanted${m}) {\n${write(m)}  }\n`)}}
`,
  };
}

/** WGSL for the query rows of a thread, their positions, and the keys `lo` to `hi` that the block sees. */
export function queryRange(frame: Frame, offset: string): string {
  const { rows, keys, causal, window, each } = frame;
  const { time } = frame.shape;
  return `${ownRows(frame, time)}  let offset = ${offset};
${repeat(each, (m) => `  let position${m} = i32(row${m}) + offset;\n`)}  let lo = ${
    window === null ? "0" : `max(0, i32(first) + offset - ${window - 1})`
  };
  let hi = ${causal ? `min(${keys}, offset + i32(min(first + ${rows}u, ${time}u)))` : `${keys}`};
`;
}

/** WGSL for the first load of key `j`. */
export function keyAddress({ keys, ratio, loads, shape }: Frame, j: string): string {
  const head = ratio === 1 ? "head" : `head / ${ratio}u`;
  return `((batch * ${keys}u + ${j}) * ${shape.kvHeads}u + ${head}) * ${loads}u`;
}

/** WGSL for which of the keys j to j + 3 query row m of a thread sees. */
export function queryVisible(
  { causal, window }: Frame,
  { cached, m }: { readonly cached: boolean; readonly m: number },
): string {
  const at = "vec4i(j, j + 1, j + 2, j + 3)";
  const tests = [
    ...(causal ? [`(${at} <= vec4i(position${m}))`] : []),
    ...(!causal || cached ? [`(${at} < vec4i(hi))`] : []),
    ...(window === null ? [] : [`(${at} > vec4i(position${m} - ${window}))`]),
  ];
  return tests.join(" & ");
}
