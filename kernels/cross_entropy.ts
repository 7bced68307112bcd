/**
 * Softmax cross-entropy with class labels, and its gradient.
 *
 * Legend: N rows, V classes. A label equal to `ignore` gives a loss and a gradient of zero; any other label outside
 * 0..V-1 gives NaN, so that it cannot pass unseen.
 *
 * @module
 */

import { type Kernel, storage } from "./kernel.ts";
import {
  flatKernel,
  lanesOf,
  LOWEST,
  NAN_FUNCTION,
  rowEach,
  rowGrid,
  rowMain,
  rowMemory,
  rowReduce,
  type Threads,
} from "./rows.ts";

/** Options of {@link crossEntropy}. */
export interface CrossEntropyOptions {
  /** Rows N. */
  readonly rows: number;
  /** Classes V; N * V stays below 2^32. */
  readonly classes: number;
  /** Label of rows that do not count, usually -100. */
  readonly ignore: number;
  /** Threads of a row; `rowThreads` recommends. */
  readonly threads: Threads;
}

/**
 * Loss of each row, in nats: `lse - logits[label]`, `lse = log(sum(exp(logits)))`, in one pass over the logits.
 *
 * Bindings: a0 `logits[N,V]`, a1 `labels[N]` i32; o0 `loss[N]`, o1 `lse[N]`.
 *
 * @param options Sizes and tuning
 * @returns The kernel
 */
export function crossEntropy({ rows, classes, ignore, threads }: CrossEntropyOptions): Kernel {
  const { lanes, type, loads, sum, top } = lanesOf(classes);
  const bunch = (at: readonly string[]): string => {
    const read = at.map((i, k) => `    let x${k} = a0[base + ${i}];`).join("\n");
    const highest = at.map((_, k) => `x${k}`).reduce((a, b) => `max(${a}, ${b})`);
    const exps = at.map((_, k) => `exp(x${k} - next)`).join(" + ");
    return `${read}
    let highest = ${highest};
    let next = max(high, ${top("highest")});
    let powers = ${exps};
    total = fma(total, exp(high - next), ${sum("powers")});
    high = next;`;
  };
  const picked = lanes === 4 ? "a0[base + u32(label) / 4u][u32(label) % 4u]" : "a0[base + u32(label)]";
  return {
    name: `cross_entropy ${rows}x${classes}`,
    grid: rowGrid({ rows, threads }),
    flops: 4 * rows * classes,
    code: `${storage([type, "i32"], ["f32", "f32"])}${rowMemory(threads)}${NAN_FUNCTION}
${rowMain({ rows, threads })}  let base = row * ${loads}u;
  var high = ${LOWEST};
  var total = 0.0f;
${rowEach({ items: loads, threads }, bunch)}
  var highest = high;
${rowReduce(threads, { name: "highest", by: "max" })}
  total *= exp(high - highest);
${rowReduce(threads, { name: "total", by: "sum" })}
${threads === 1 ? "" : "  if (lid != 0u) { return; }\n"}  let lse = highest + log(total);
  let label = a1[row];
  var loss = 0.0f;
  if (label != ${ignore}) {
    if (label < 0 || label >= ${classes}) { loss = nan(); } else { loss = lse - ${picked}; }
  }
  o0[row] = loss;
  o1[row] = lse;
}
`,
  };
}

/** Options of {@link crossEntropyGrad}. */
export interface CrossEntropyGradOptions {
  /** Rows N. */
  readonly rows: number;
  /** Classes V; N * V stays below 2^32. */
  readonly classes: number;
  /** Label of rows that do not count, usually -100. */
  readonly ignore: number;
  /** Whether the gradient overwrites the logits. */
  readonly inPlace?: boolean;
}

/**
 * Gradient of the summed loss by the logits: `(exp(logits - lse) - onehot(label)) * scale`.
 *
 * Bindings: a0 `logits[N,V]`, a1 `labels[N]` i32, a2 `lse[N]`, a3 `scale[1]`, the gradient of the sum; o0 `dlogits[N,V]`.
 * With `inPlace`: a0 `labels[N]` i32, a1 `lse[N]`, a2 `scale[1]`; o0 `logits[N,V]`, read and then overwritten.
 *
 * @param options Sizes
 * @returns The kernel
 */
export function crossEntropyGrad({ rows, classes, ignore, inPlace }: CrossEntropyGradOptions): Kernel {
  const { lanes, type, loads } = lanesOf(classes);
  const [logits, labels, lse, scale] = inPlace ? ["o0", "a0", "a1", "a2"] : ["a0", "a1", "a2", "a3"];
  const here = lanes === 4
    ? "vec4i(i32(column) * 4) + vec4i(0, 1, 2, 3) == vec4i(label)"
    : "i32(column) == label";
  return flatKernel({
    name: `cross_entropy_grad ${rows}x${classes}`,
    items: rows * loads,
    inputs: [...(inPlace ? [] : [type]), "i32", "f32", "f32"],
    outputs: [type],
    functions: NAN_FUNCTION,
    flops: 4 * rows * classes,
    body: `  let row = i / ${loads}u;
  let column = i - row * ${loads}u;
  let label = ${labels}[row];
  var slope = ${type}();
  if (label != ${ignore}) {
    slope = exp(${logits}[i] - ${lse}[row]) - select(${type}(), ${type}(1.0f), ${here});
    slope *= ${scale}[0];
    if (label < 0 || label >= ${classes}) { slope = ${type}(nan()); }
  }
  o0[i] = slope;
`,
  });
}
