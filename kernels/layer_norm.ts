/**
 * Layer normalisation over rows, and its gradient.
 *
 * @module
 */

import { access, type F16Bindings } from "./f16.ts";
import { f32, type Kernel, storage } from "./kernel.ts";
import { lanesOf, rowEach, rowGrid, rowMain, rowMemory, rowReduce, type Threads } from "./rows.ts";

/** Options of {@link layerNorm}. */
export interface LayerNormOptions {
  /** Rows N. */
  readonly rows: number;
  /** Elements of a row, C. */
  readonly width: number;
  /** Added to the variance. */
  readonly eps: number;
  /** Threads of a row; `rowThreads` recommends. */
  readonly threads: Threads;
  /** Whether the result is multiplied by a gain. */
  readonly gain: boolean;
  /** Whether a bias is added, after the gain. */
  readonly bias: boolean;
  /** Whether to store mean and factor of each row for the gradient. */
  readonly saveStatistics: boolean;
  /** Which of the bindings `a0` and `o0` hold f16; none when absent. */
  readonly f16?: F16Bindings;
}

/**
 * Normalises rows: `y = (x - mean) * rstd * gain + bias`, `rstd = 1 / sqrt(variance + eps)`. The variance is that of
 * differences from the mean, so that a large mean costs no digits.
 *
 * Bindings: a0 `x[N,C]`, with a gain a1 `gain[C]`, with a bias a further `bias[C]`; o0 `y[N,C]`, and with `saveStatistics`
 * o1 `mean[N]`, o2 `rstd[N]`.
 *
 * Source: Ba, Kiros and Hinton 2016, equation 3.
 *
 * @param options Sizes and tuning
 * @returns The kernel
 */
export function layerNorm(options: LayerNormOptions): Kernel {
  const { rows, width, eps, threads, gain, bias, saveStatistics, f16 } = options;
  const { type, loads, sum } = lanesOf(width);
  const { load, put } = access(type, f16);
  const x = (i: string): string => load("a0", `base + ${i}`);
  const work = { items: loads, threads };
  const each = (line: (i: string) => string): string => rowEach(work, (at) => at.map(line).join("\n"));
  const scale = gain ? " * a1" : "", shift = bias ? ` + a${gain ? 2 : 1}` : "";
  const result = (i: string): string =>
    `(${x(i)} - mean) * rstd${scale && `${scale}[${i}]`}${shift && `${shift}[${i}]`}`;
  const inputs = [type, ...(gain ? [type] : []), ...(bias ? [type] : [])];
  const save = "o1[row] = mean; o2[row] = rstd;";
  return {
    name: `layer_norm ${rows}x${width}`,
    grid: rowGrid({ rows, threads }),
    flops: 7 * rows * width,
    code: `${storage(inputs, saveStatistics ? [type, "f32", "f32"] : [type], f16)}${rowMemory(threads)}
${rowMain({ rows, threads })}  let base = row * ${loads}u;
  var all = ${type}();
${each((i) => `    all += ${x(i)};`)}
  var mean = ${sum("all")};
${rowReduce(threads, { name: "mean", by: "sum" })}
  mean *= ${f32(1 / width)};
  all = ${type}();
${each((i) => `    { let off = ${x(i)} - mean; all = fma(off, off, all); }`)}
  var total = ${sum("all")};
${again(threads)}${rowReduce(threads, { name: "total", by: "sum" })}
  let rstd = inverseSqrt(total * ${f32(1 / width)} + ${f32(eps)});
${each((i) => `    ${put("o0", `base + ${i}`, result(i))}`)}
${saveStatistics ? (threads === 1 ? `  ${save}\n` : `  if (lid == 0u) { ${save} }\n`) : ""}}
`,
  };
}

/** Lets all threads read one combined value before the memory is used for the next. */
function again(threads: Threads): string {
  return threads === 1 ? "" : "  workgroupBarrier();\n";
}

/** Options of {@link layerNormGradX}. */
export interface LayerNormGradOptions {
  /** Rows N. */
  readonly rows: number;
  /** Elements of a row, C. */
  readonly width: number;
  /** Threads of a row; `rowThreads` recommends. */
  readonly threads: Threads;
  /** Whether the norm had a gain. */
  readonly gain: boolean;
  /** Whether a further input is added to the result. */
  readonly residual?: boolean;
  /** Which of the bindings other than `a2` and `a3` hold f16; none when absent. */
  readonly f16?: F16Bindings;
}

/**
 * Gradient of {@link layerNorm} by its input: with `n = (x - mean) * rstd` and `d = gain * dy`,
 * `dx = rstd * (d - mean(d) - n * mean(d * n))`.
 *
 * Bindings: a0 `x[N,C]`, a1 `dy[N,C]`, a2 `mean[N]`, a3 `rstd[N]`, with a gain a4 `gain[C]`, with `residual` a further
 * `more[N,C]`, which is added; o0 `dx[N,C]`.
 *
 * @param options Sizes and tuning
 * @returns The kernel
 */
export function layerNormGradX({ rows, width, threads, gain, residual, f16 }: LayerNormGradOptions): Kernel {
  const { type, loads, sum } = lanesOf(width);
  const { load, put } = access(type, f16);
  const row = (name: string, i: string): string => load(name, `base + ${i}`);
  const work = { items: loads, threads };
  const each = (line: (i: string) => string): string => rowEach(work, (at) => at.map(line).join("\n"));
  const inputs = [type, type, "f32", "f32", ...(gain ? [type] : []), ...(residual ? [type] : [])];
  const slope = (i: string): string => `${row("a1", i)}${gain ? ` * ${load("a4", i)}` : ""}`;
  const norm = (i: string): string => `(${row("a0", i)} - mean) * rstd`;
  const more = (i: string): string => residual ? ` + ${row(gain ? "a5" : "a4", i)}` : "";
  const add = (i: string): string =>
    `    { let d = ${slope(i)}; all += d; along = fma(d, ${norm(i)}, along); }`;
  const write = (i: string): string =>
    `    ${put("o0", `base + ${i}`, `(${slope(i)} - level - ${norm(i)} * tilt) * rstd${more(i)}`)}`;
  return {
    name: `layer_norm_grad ${rows}x${width}`,
    grid: rowGrid({ rows, threads }),
    flops: 12 * rows * width,
    code: `${storage(inputs, [type], f16)}${rowMemory(threads)}
${rowMain({ rows, threads })}  let base = row * ${loads}u;
  let mean = a2[row];
  let rstd = a3[row];
  var all = ${type}();
  var along = ${type}();
${each(add)}
  var level = ${sum("all")};
  var tilt = ${sum("along")};
${rowReduce(threads, { name: "level", by: "sum" })}
${again(threads)}${rowReduce(threads, { name: "tilt", by: "sum" })}
  level *= ${f32(1 / width)};
  tilt *= ${f32(1 / width)};
${each(write)}}
`,
  };
}
