/**
 * Softmax along an axis, and its gradient.
 *
 * @module
 */

import { access, type F16Bindings } from "./f16.ts";
import { type Kernel, storage } from "./kernel.ts";
import {
  boundedLoop,
  flatKernel,
  lanesOf,
  LOWEST,
  rowEach,
  rowGrid,
  rowMain,
  rowMemory,
  rowReduce,
  type Threads,
} from "./rows.ts";

/** An axis of a tensor `[outer, length, inner]`. */
export interface SoftmaxOptions {
  /** Product of the sizes before the axis. */
  readonly outer: number;
  /** Size of the axis. */
  readonly length: number;
  /** Product of the sizes after it; a thread handles a column, or four, where it is above 1. */
  readonly inner: number;
  /** Threads of a row where `inner` is 1; `rowThreads` recommends. */
  readonly threads: Threads;
  /** Which of the bindings hold f16; none when absent. */
  readonly f16?: F16Bindings;
}

/**
 * Softmax: `y = exp(x - max x) / sum exp(x - max x)`.
 *
 * Bindings: a0 `x[outer,length,inner]`; o0 `y` of the same shape.
 *
 * @param options Sizes and tuning
 * @returns The kernel
 */
export function softmax(options: SoftmaxOptions): Kernel {
  const { outer, length, inner, threads, f16 } = options;
  const name = `softmax ${outer}x${length}x${inner}`, flops = 4 * outer * length * inner;
  if (inner > 1) {
    const column = columnOf(options), { load, put } = column;
    return flatKernel({
      ...column.work,
      name,
      flops,
      inputs: [column.type],
      body: `${column.start}  var top = ${column.type}(${LOWEST});
${column.each(`top = max(top, ${load("a0", "i")});`)}
  var total = ${column.type}();
${column.each(`total += exp(${load("a0", "i")} - top);`)}
${column.each(put("o0", "i", `exp(${load("a0", "i")} - top) / total`))}
`,
    });
  }
  const { type, loads, sum, top } = lanesOf(length);
  const { load, put } = access(type, f16);
  const x = (i: string): string => load("a0", `base + ${i}`), work = { items: loads, threads };
  const each = (line: (i: string) => string): string => rowEach(work, (at) => at.map(line).join("\n"));
  return {
    name,
    flops,
    grid: rowGrid({ rows: outer, threads }),
    code: `${storage([type], [type], f16)}${rowMemory(threads)}
${rowMain({ rows: outer, threads })}  let base = row * ${loads}u;
  var high = ${type}(${LOWEST});
${each((i) => `    high = max(high, ${x(i)});`)}
  var highest = ${top("high")};
${rowReduce(threads, { name: "highest", by: "max" })}
  var all = ${type}();
${each((i) => `    all += exp(${x(i)} - highest);`)}
  var total = ${sum("all")};
${threads === 1 ? "" : "  workgroupBarrier();\n"}${rowReduce(threads, { name: "total", by: "sum" })}
${each((i) => `    ${put("o0", `base + ${i}`, `exp(${x(i)} - highest) / total`)}`)}}
`,
  };
}

/**
 * Gradient of {@link softmax} by its input: `dx = y * (dy - sum(y * dy))`.
 *
 * Bindings: a0 `y[outer,length,inner]`, a1 `dy`; o0 `dx`, both of the same shape.
 *
 * @param options Sizes and tuning
 * @returns The kernel
 */
export function softmaxGrad(options: SoftmaxOptions): Kernel {
  const { outer, length, inner, threads, f16 } = options;
  const name = `softmax_grad ${outer}x${length}x${inner}`, flops = 4 * outer * length * inner;
  if (inner > 1) {
    const column = columnOf(options), { load, put } = column;
    return flatKernel({
      ...column.work,
      name,
      flops,
      inputs: [column.type, column.type],
      body: `${column.start}  var total = ${column.type}();
${column.each(`total = fma(${load("a0", "i")}, ${load("a1", "i")}, total);`)}
${column.each(put("o0", "i", `${load("a0", "i")} * (${load("a1", "i")} - total)`))}
`,
    });
  }
  const { type, loads, sum } = lanesOf(length);
  const { load, put } = access(type, f16);
  const at = (name: string, i: string): string => load(name, `base + ${i}`), work = { items: loads, threads };
  const each = (line: (i: string) => string): string => rowEach(work, (at) => at.map(line).join("\n"));
  return {
    name,
    flops,
    grid: rowGrid({ rows: outer, threads }),
    code: `${storage([type, type], [type], f16)}${rowMemory(threads)}
${rowMain({ rows: outer, threads })}  let base = row * ${loads}u;
  var all = ${type}();
${each((i) => `    all = fma(${at("a0", i)}, ${at("a1", i)}, all);`)}
  var total = ${sum("all")};
${rowReduce(threads, { name: "total", by: "sum" })}
${each((i) => `    ${put("o0", `base + ${i}`, `${at("a0", i)} * (${at("a1", i)} - total)`)}`)}}
`,
  };
}

/** A thread for each column, or for each four neighbouring ones. */
function columnOf({ outer, length, inner, f16 }: SoftmaxOptions) {
  const { type, loads } = lanesOf(inner), { load, put } = access(type, f16);
  return {
    type,
    load,
    put,
    work: { items: outer * loads, outputs: [type], f16 },
    start: `  let first = i / ${loads}u * ${length * loads}u + i % ${loads}u;
  let end = first + ${length * loads}u;
`,
    each: (line: string): string =>
      boundedLoop({ from: "first", to: "end", step: loads, rounds: 3 * length }, line),
  };
}
