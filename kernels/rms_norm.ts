/**
 * Root mean square normalisation over rows, and its gradient.
 *
 * @module
 */

import { access, type F16Bindings } from "./f16.ts";
import { f32, type Kernel, storage } from "./kernel.ts";
import { lanesOf, rowEach, rowGrid, rowMain, rowMemory, rowReduce, type Threads } from "./rows.ts";

/** Options of {@link rmsNorm}. */
export interface RmsNormOptions {
  /** Rows N. */
  readonly rows: number;
  /** Elements of a row, C. */
  readonly width: number;
  /** Added to the mean square. */
  readonly eps: number;
  /** Threads of a row; `rowThreads` recommends. */
  readonly threads: Threads;
  /** Whether to store the factor of each row for the gradient. */
  readonly saveScale: boolean;
  /** Which of the bindings `a0` and `o0` hold f16; none when absent. */
  readonly f16?: F16Bindings;
}

/**
 * Normalises rows: `y = x * rstd * gain`, `rstd = 1 / sqrt(mean(x^2) + eps)`.
 *
 * Bindings: a0 `x[N,C]`, a1 `gain[C]`; o0 `y[N,C]`, and with `saveScale` o1 `rstd[N]`.
 *
 * Source: Zhang and Sennrich 2019, equation 4.
 *
 * @param options Sizes and tuning
 * @returns The kernel
 */
export function rmsNorm({ rows, width, eps, threads, saveScale, f16 }: RmsNormOptions): Kernel {
  const { type, loads, sum } = lanesOf(width);
  const { load, put } = access(type, f16);
  const x = (i: string): string => load("a0", `base + ${i}`);
  const work = { items: loads, threads };
  return {
    name: `rms_norm ${rows}x${width}`,
    grid: rowGrid({ rows, threads }),
    flops: 4 * rows * width,
    code: `${storage([type, type], saveScale ? [type, "f32"] : [type], f16)}${rowMemory(threads)}
${rowMain({ rows, threads })}  let base = row * ${loads}u;
  var all = ${type}();
${rowEach(work, (at) => at.map((i) => `    { let x = ${x(i)}; all = fma(x, x, all); }`).join("\n"))}
  var total = ${sum("all")};
${rowReduce(threads, { name: "total", by: "sum" })}
  let rstd = inverseSqrt(total * ${f32(1 / width)} + ${f32(eps)});
${
      rowEach(work, (at) =>
        at.map((i) => `    ${put("o0", `base + ${i}`, `${x(i)} * rstd * a1[${i}]`)}`).join("\n"))
    }
${saveScale ? (threads === 1 ? "  o1[row] = rstd;\n" : "  if (lid == 0u) { o1[row] = rstd; }\n") : ""}}
`,
  };
}

/** Options of {@link rmsNormGradX}. */
export interface RmsNormGradOptions {
  /** Rows N. */
  readonly rows: number;
  /** Elements of a row, C. */
  readonly width: number;
  /** Threads of a row; `rowThreads` recommends. */
  readonly threads: Threads;
  /** Whether a further input is added to the result. */
  readonly residual?: boolean;
  /** Which of the bindings `a0`, `a2`, `a4` and `o0` hold f16; none when absent. */
  readonly f16?: F16Bindings;
}

/**
 * Gradient of {@link rmsNorm} by its input: `dx = rstd * gain * dy - x * rstd^3 * mean(gain * dy * x)`.
 *
 * Bindings: a0 `x[N,C]`, a1 `gain[C]`, a2 `dy[N,C]`, a3 `rstd[N]`, with `residual` a4 `more[N,C]`, which is added;
 * o0 `dx[N,C]`.
 *
 * @param options Sizes and tuning
 * @returns The kernel
 */
export function rmsNormGradX({ rows, width, threads, residual, f16 }: RmsNormGradOptions): Kernel {
  const { type, loads, sum } = lanesOf(width);
  const { load, put } = access(type, f16);
  const row = (name: string, i: string): string => load(name, `base + ${i}`);
  const work = { items: loads, threads };
  const inputs = [type, type, type, "f32", ...(residual ? [type] : [])];
  const more = (i: string): string => residual ? ` + ${row("a4", i)}` : "";
  const write = (i: string): string =>
    `    ${put("o0", `base + ${i}`, `a1[${i}] * ${row("a2", i)} * rstd - ${row("a0", i)} * back${more(i)}`)}`;
  return {
    name: `rms_norm_grad ${rows}x${width}`,
    grid: rowGrid({ rows, threads }),
    flops: 7 * rows * width,
    code: `${storage(inputs, [type], f16)}${rowMemory(threads)}
${rowMain({ rows, threads })}  let base = row * ${loads}u;
  let rstd = a3[row];
  var all = ${type}();
${
      rowEach(
        work,
        (at) => at.map((i) => `    all = fma(a1[${i}] * ${row("a2", i)}, ${row("a0", i)}, all);`).join("\n"),
      )
    }
  var total = ${sum("all")};
${rowReduce(threads, { name: "total", by: "sum" })}
  let back = total * rstd * rstd * rstd * ${f32(1 / width)};
${rowEach(work, (at) => at.map(write).join("\n"))}}
`,
  };
}
