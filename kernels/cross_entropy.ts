/**
 * Softmax cross-entropy with class labels, and its gradient.
 *
 * Legend: N rows, V classes, S elements from one row of scores to the next. A label equal to `ignore` gives a loss and a
 * gradient of zero; any other label outside 0..V-1 gives NaN, so that it does not go unnoticed.
 *
 * @module
 */

import { access, type F16Bindings } from "./f16.ts";
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

/** The scores of {@link crossEntropy} and {@link crossEntropyGrad}. */
export interface Scores {
  /** Rows N. */
  readonly rows: number;
  /** Classes V. */
  readonly classes: number;
  /** Elements from one row to the next, S; those past the classes are ignored. V when absent. N * S must be below 2^32. */
  readonly stride?: number;
  /** Label of rows to ignore, usually -100. */
  readonly ignore: number;
  /** Which of the bindings of scores and their gradient hold f16; none when absent. */
  readonly f16?: F16Bindings;
}

/** Options of {@link crossEntropy}. */
export interface CrossEntropyOptions extends Scores {
  /** Threads of a row; `rowThreads` recommends. */
  readonly threads: Threads;
}

/**
 * Loss of each row, in nats: `lse - logits[label]`, `lse = log(sum(exp(logits)))`, in one pass over the logits. Ignored
 * rows are not read; their loss and `lse` are 0.
 *
 * Bindings: a0 `logits[N,S]`, a1 `labels[N]` i32; o0 `loss[N]`, o1 `lse[N]`.
 *
 * @param options Sizes and tuning
 * @returns The kernel
 */
export function crossEntropy(options: CrossEntropyOptions): Kernel {
  const { rows, classes, stride = classes, ignore, threads, f16 } = options;
  const { lanes, type, loads, sum, top } = lanesOf(stride), { load } = access(type, f16);
  const whole = Math.floor(classes / lanes), rest = classes % lanes;
  const accumulate = (at: readonly string[], own = (x: string): string => x): string => {
    const read = at.map((i, k) => `    let x${k} = ${own(load("a0", `base + ${i}`))};`).join("\n");
    const highest = at.map((_, k) => `x${k}`).reduce((a, b) => `max(${a}, ${b})`);
    const exps = at.map((_, k) => `exp(x${k} - next)`).join(" + ");
    return `${read}
    let highest = ${highest};
    let next = max(high, ${top("highest")});
    let powers = ${exps};
    total = fma(total, exp(high - next), ${sum("powers")});
    high = next;`;
  };
  const inside = [0, 1, 2, 3].map((c) => c < rest).join(", ");
  const last = rest === 0 ? "" : `  ${threads === 1 ? "" : "if (lid == 0u) "}{
${accumulate([`${whole}u`], (x) => `select(vec4f(${LOWEST}), ${x}, vec4<bool>(${inside}))`)}
  }
`;
  const picked = lanes === 4
    ? `${load("a0", "base + u32(label) / 4u")}[u32(label) % 4u]`
    : load("a0", "base + u32(label)");
  return {
    name: `cross_entropy ${rows}x${classes}`,
    grid: rowGrid({ rows, threads }),
    flops: 4 * rows * classes,
    code: `${storage([type, "i32"], ["f32", "f32"], f16)}${rowMemory(threads)}${NAN_FUNCTION}
${rowMain({ rows, threads })}  let label = a1[row];
  if (label == ${ignore}) {
    ${threads === 1 ? "" : "if (lid == 0u) "}{ o0[row] = 0.0f; o1[row] = 0.0f; }
    return;
  }
  let base = row * ${loads}u;
  var high = ${LOWEST};
  var total = 0.0f;
${rowEach({ items: whole, threads }, (at) => accumulate(at))}${last}
  var highest = high;
${rowReduce(threads, { name: "highest", by: "max" })}
  total *= exp(high - highest);
${rowReduce(threads, { name: "total", by: "sum" })}
${threads === 1 ? "" : "  if (lid != 0u) { return; }\n"}  let lse = highest + log(total);
  var loss = nan();
  if (label >= 0 && label < ${classes}) { loss = lse - ${picked}; }
  o0[row] = loss;
  o1[row] = lse;
}
`,
  };
}

/** Options of {@link crossEntropyGrad}. */
export interface CrossEntropyGradOptions extends Scores {
  /** Whether the gradient overwrites the logits. */
  readonly inPlace?: boolean;
}

/**
 * Gradient of the summed loss by the logits: `(exp(logits - lse) - onehot(label)) * scale`, zero past the classes.
 *
 * Bindings: a0 `logits[N,S]`, a1 `labels[N]` i32, a2 `lse[N]`, a3 `scale[1]`, the gradient of the sum; o0 `dlogits[N,S]`.
 * With `inPlace`: a0 `labels[N]` i32, a1 `lse[N]`, a2 `scale[1]`; o0 `logits[N,S]`, read and then overwritten.
 *
 * @param options Sizes
 * @returns The kernel
 */
export function crossEntropyGrad(options: CrossEntropyGradOptions): Kernel {
  const { rows, classes, stride = classes, ignore, inPlace, f16 } = options;
  const { lanes, type, loads } = lanesOf(stride), { load, put } = access(type, f16);
  const [logits, labels, lse, scale] = inPlace ? ["o0", "a0", "a1", "a2"] : ["a0", "a1", "a2", "a3"];
  const ids = lanes === 4 ? "vec4i(i32(column) * 4) + vec4i(0, 1, 2, 3)" : "i32(column)";
  const many = (x: string | number): string => lanes === 4 ? `vec4i(${x})` : `${x}`;
  const cut = stride === classes ? "" : `    slope = select(${type}(), slope, ${ids} < ${many(classes)});\n`;
  return flatKernel({
    name: `cross_entropy_grad ${rows}x${classes}`,
    items: rows * loads,
    inputs: [...(inPlace ? [] : [type]), "i32", "f32", "f32"],
    outputs: [type],
    f16,
    functions: NAN_FUNCTION,
    flops: 4 * rows * classes,
    body: `  let row = i / ${loads}u;
  let column = i - row * ${loads}u;
  let label = ${labels}[row];
  var slope = ${type}();
  if (label != ${ignore}) {
    slope = exp(${load(logits, "i")} - ${lse}[row]) - select(${type}(), ${type}(1.0f), ${ids} == ${
      many("label")
    });
    slope *= ${scale}[0];
    if (label < 0 || label >= ${classes}) { slope = ${type}(nan()); }
${cut}  }
  ${put("o0", "i", "slope")}
`,
  });
}
