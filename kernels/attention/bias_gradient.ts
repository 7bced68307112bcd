/**
 * The gradient of attention by its bias: each thread owns an element of the bias and walks over the batches and heads that
 * share it. No T x S matrix is in memory that is larger than the bias over all queries.
 *
 * @module
 */

import { f32, type Kernel } from "../kernel.ts";
import { flatKernel } from "../rows.ts";
import {
  attentionFrame,
  type AttentionShape,
  type Frame,
  keyAddress,
  queryRow,
  visiblePairs,
} from "./frame.ts";
import { biasIndex, finishScore, scoreFactor } from "./scores.ts";

/** Options of {@link attentionGradBias}. */
export interface AttentionGradBiasOptions extends AttentionShape {
  /** [B|1, H|1, T|1, S]. */
  readonly bias: readonly number[];
}

/**
 * Gradient of attention by the bias of its scores. A bias that all queries share gets one gradient for each query: the
 * caller sums them.
 *
 * Bindings: a0 `q[B,T,H,D]`, a1 `k[B,S,G,D]`, a2 `v[B,S,G,D]`, a3 `dOut[B,T,H,D]`, a4 `rows[B,T,H,4]` as in
 * {@link attentionGradQ}, a5 `bias[B|1,H|1,T|1,S]`; o0 `dBias[B|1,H|1,T,S]`.
 *
 * @param options Sizes
 * @returns The kernel
 * @throws {RangeError} When sizes do not fit
 */
export function attentionGradBias(options: AttentionGradBiasOptions): Kernel {
  const { batch, time, heads, dim, bias: [batches, biasHeads], f16 } = options;
  const frame = attentionFrame(options, { tiling: { tile: 0 }, pass: "gradQ" });
  const { keys, inputs } = frame;
  return flatKernel({
    name: `attention_grad_bias ${batches}x${biasHeads}x${time}x${keys}`,
    items: batches * biasHeads * time * keys,
    inputs: inputs.types,
    outputs: ["f32"],
    f16,
    flops: 4 * dim * visiblePairs(frame),
    body: `  let key = i % ${keys}u;
  let query = i / ${keys}u % ${time}u;
  let ownHead = i / ${keys * time}u % ${biasHeads}u;
  let ownBatch = i / ${keys * time * biasHeads}u;
  var total = 0.0f;
${each("batch", { own: "ownBatch", count: batch, shared: batches === 1 })}${
      each("head", { own: "ownHead", count: heads, shared: biasHeads === 1 })
    }${pair(frame)}  } }
  o0[i] = total;
`,
  });
}

/** Opens a loop over the batches or heads that share an element: one, or all. */
function each(
  name: string,
  { own, count, shared }: { readonly own: string; readonly count: number; readonly shared: boolean },
): string {
  const [first, end] = shared ? ["0u", `${count}u`] : [own, `${own} + 1u`];
  return `  for (var ${name} = ${first}; ${name} < ${end}; ${name} += 1u) {\n`;
}

/** WGSL that adds the gradient of the score of one query and key to `total`. */
function pair(frame: Frame): string {
  const { shape, loads, type, sum, load, inputs: { lse, delta, bias } } = frame;
  return `    if (${visible(frame)}) {
    let row = ${queryRow(frame, { i: "query", count: shape.time })};
    let at = row * ${loads}u;
    let to = ${keyAddress(frame, "key")};
    var scores = ${type}();
    var changes = ${type}();
    for (var d = 0u; d < ${loads}u; d += 1u) {
      scores = fma(${load("a0", "at + d")}, ${load("a1", "to + d")}, scores);
      changes = fma(${load("a3", "at + d")}, ${load("a2", "to + d")}, changes);
    }
    var score = ${sum("scores")} * ${scoreFactor(frame)};
${
    finishScore(frame, {
      name: "score",
      type: "f32",
      slope: null,
      value: `${bias}[${biasIndex(frame, "query", "key")}]`,
    })
  }    total += exp2(score - ${lse("row")} * ${f32(Math.LOG2E)}) * (${sum("changes")} - ${delta("row")});
    }
`;
}

/** WGSL for whether `query` sees `key`. */
function visible({ shape, keys, causal, window, inputs: { range } }: Frame): string {
  if (shape.ranges) {
    const seen = range("query");
    return `i32(key) >= ${seen}.x && i32(key) < ${seen}.y`;
  }
  const position = `query + ${keys - shape.time}u`;
  return [
    causal ? `key <= ${position}` : "true",
    ...(window === null ? [] : [`key + ${window}u > ${position}`]),
  ].join(" && ");
}
