/**
 * Kernels that move elements without computing: permute, slice, pad, concat, shift.
 *
 * They copy 32-bit words, so one kernel serves f32, i32 and u32 and keeps every bit; f16 needs another kernel.
 *
 * @module
 */

import { type Access, access, type F16Bindings } from "./f16.ts";
import type { Kernel } from "./kernel.ts";
import { flatKernel } from "./rows.ts";

/** Most axes of a tensor. */
const MAX_RANK = 6;

/** How the tensors are stored. */
export interface MovementStorage {
  /** Which of the bindings `a0`, ..., and `o0` hold f16, the others f32; all hold 32-bit words when absent. */
  readonly f16?: F16Bindings;
}

/** The type of one load, and how it is loaded and stored. */
function moves(lanes: 4 | 1, f16: F16Bindings = []): Access & { readonly type: string } {
  const scalar = f16.length === 0 ? "u" : "f";
  const type = lanes === 4 ? `vec4${scalar}` : `${scalar}32`;
  return { ...access(type, f16), type };
}

/** The axes of an output, each with its stride in the input. */
interface Walk {
  readonly sizes: readonly number[];
  readonly strides: readonly number[];
  readonly start: number;
}

/**
 * Permutes axes: axis k of the output is axis `axes[k]` of the input.
 *
 * Bindings: a0 the input of `shape`; o0 the output.
 *
 * @param options Shape of the input, rank up to 6, and a permutation of its axes
 * @returns The kernel
 * @throws {RangeError} When `axes` is no permutation
 */
export function permute(
  { shape, axes, f16 }: MovementStorage & {
    readonly shape: readonly number[];
    readonly axes: readonly number[];
  },
): Kernel {
  checkRank("permute", shape, axes);
  if ([...axes].sort((a, b) => a - b).some((axis, k) => axis !== k)) {
    throw new RangeError(`Cannot permute [${shape}] as "axes" must name each axis once: [${axes}]`);
  }
  const strides = stridesOf(shape);
  const walk = {
    sizes: axes.map((axis) => shape[axis]),
    strides: axes.map((axis) => strides[axis]),
    start: 0,
  };
  return walkKernel(`permute [${shape}] [${axes}]`, { ...walk, f16 });
}

/**
 * Cuts a box out of a tensor.
 *
 * Bindings: a0 the input of `shape`; o0 the output of `sizes`.
 *
 * @param options Shape of the input, rank up to 6; first index and count of each axis
 * @returns The kernel
 * @throws {RangeError} When the box is not inside the input
 */
export function slice(
  { shape, starts, sizes, f16 }: MovementStorage & {
    readonly shape: readonly number[];
    readonly starts: readonly number[];
    readonly sizes: readonly number[];
  },
): Kernel {
  checkRank("slice", shape, starts, sizes);
  if (shape.some((size, k) => starts[k] < 0 || starts[k] + sizes[k] > size)) {
    throw new RangeError(
      `Cannot slice [${shape}] as the box must lie inside: starts [${starts}], sizes [${sizes}]`,
    );
  }
  const strides = stridesOf(shape);
  const start = strides.reduce((sum, stride, k) => sum + stride * starts[k], 0);
  return walkKernel(`slice [${shape}] [${starts}] [${sizes}]`, { sizes, strides, start, f16 });
}

/**
 * Puts zeros around a tensor: the gradient of {@link slice}.
 *
 * Bindings: a0 the input of `shape`; o0 the output, `before + shape + after` along each axis.
 *
 * @param options Shape of the input, rank up to 6; zeros before and after it along each axis
 * @returns The kernel
 */
export function pad(
  { shape, before, after, f16 }: MovementStorage & {
    readonly shape: readonly number[];
    readonly before: readonly number[];
    readonly after: readonly number[];
  },
): Kernel {
  checkRank("pad", shape, before, after);
  // An axis without padding is merged with the one before it.
  const axes: { size: number; before: number; after: number }[] = [{ size: 1, before: 0, after: 0 }];
  shape.forEach((size, k) => {
    const last = axes[axes.length - 1];
    if (before[k] === 0 && after[k] === 0) {
      axes[axes.length - 1] = {
        size: last.size * size,
        before: last.before * size,
        after: last.after * size,
      };
    } else axes.push({ size, before: before[k], after: after[k] });
  });
  const last = axes[axes.length - 1];
  const lanes = [last.size, last.before, last.after].every((n) => n % 4 === 0) ? 4 : 1;
  axes[axes.length - 1] = { size: last.size / lanes, before: last.before / lanes, after: last.after / lanes };
  const strides = stridesOf(axes.map((axis) => axis.size));
  const totals = axes.map((axis) => axis.size + axis.before + axis.after);
  const { type, load, put } = moves(lanes, f16);
  const steps = axes.map((axis, k) =>
    totals[k] === axis.size
      ? `  source += ${coordinate(totals, k)} * ${strides[k]}u;\n`
      : `  let c${k} = ${
        coordinate(totals, k)
      } - ${axis.before}u;\n  inside = inside && c${k} < ${axis.size}u;\n` +
        `  source += c${k} * ${strides[k]}u;\n`
  );
  return flatKernel({
    name: `pad [${shape}] [${before}] [${after}]`,
    items: product(totals),
    inputs: [type],
    outputs: [type],
    f16,
    // Unsigned: an index before the input wraps around to one far past its end.
    body: `  var inside = true;\n  var source = 0u;\n${steps.join("")}  var value = ${type}();
  if (inside) { value = ${load("a0", "source")}; }
  ${put("o0", "i", "value")}
`,
  });
}

/**
 * Joins tensors along an axis.
 *
 * Bindings: one input for each shape, in order; o0 the output.
 *
 * @param options At least one shape; they differ along `axis` only
 * @returns The kernel
 * @throws {RangeError} When they differ along another axis
 */
export function concat(
  { shapes, axis, f16 }: MovementStorage & {
    readonly shapes: readonly (readonly number[])[];
    readonly axis: number;
  },
): Kernel {
  checkRank("concat", ...shapes);
  const [first] = shapes;
  const other = shapes.find((shape) => shape.some((size, k) => k !== axis && size !== first[k]));
  if (other !== undefined) {
    throw new RangeError(`Cannot concat [${first}] and [${other}] as only axis ${axis} may differ`);
  }
  const outer = product(first.slice(0, axis));
  const widths = shapes.map((shape) => product(shape.slice(axis)));
  const lanes = widths.every((width) => width % 4 === 0) ? 4 : 1;
  const total = widths.reduce((n, width) => n + width, 0) / lanes;
  const { type, load, put } = moves(lanes, f16);
  let start = 0;
  const copies = widths.map((width, k) => {
    const own = width / lanes;
    const place = start === 0 ? "column" : `(column - ${start}u)`;
    start += own;
    return `if (column < ${start}u) { ${put("o0", "i", load(`a${k}`, `row * ${own}u + ${place}`))} }`;
  });
  return flatKernel({
    name: `concat [${shapes.join("] [")}] ${axis}`,
    items: outer * total,
    inputs: shapes.map(() => type),
    outputs: [type],
    f16,
    body: `  let row = i / ${total}u;
  let column = i - row * ${total}u;
  ${copies.join("\n  else ")}
`,
  });
}

/**
 * Makes next-token labels: `out[b,t] = labels[b,t+1]`, and `ignore` at the last position.
 *
 * Bindings: a0 `labels[B,T]` i32; o0 `out[B,T]` i32.
 *
 * @param options Sequences B, positions T, and the label to ignore
 * @returns The kernel
 */
export function shiftLabels(
  { batch, time, ignore }: { readonly batch: number; readonly time: number; readonly ignore: number },
): Kernel {
  return flatKernel({
    name: `shift_labels ${batch}x${time}`,
    items: batch * time,
    inputs: ["i32"],
    outputs: ["i32"],
    body: `  var label = ${ignore}i;
  if (i % ${time}u != ${time - 1}u) { label = a0[i + 1u]; }
  o0[i] = label;
`,
  });
}

function walkKernel(name: string, { f16, ...walk }: Walk & MovementStorage): Kernel {
  const { sizes, strides, start, lanes } = widen(merge(walk));
  const { type, load, put } = moves(lanes, f16);
  const terms = sizes.map((_, k) => `${coordinate(sizes, k)} * ${strides[k]}u`);
  return flatKernel({
    name,
    items: product(sizes),
    inputs: [type],
    outputs: [type],
    f16,
    body: `  ${put("o0", "i", load("a0", [`${start}u`, ...terms].join(" + ")))}\n`,
  });
}

/** Merges neighbouring axes that are contiguous, and drops axes of one element. */
function merge({ sizes, strides, start }: Walk): Walk {
  const out: { size: number; stride: number }[] = [];
  sizes.forEach((size, k) => {
    if (size === 1) return;
    const last = out[out.length - 1];
    if (last !== undefined && last.stride === strides[k] * size) {
      out[out.length - 1] = { size: last.size * size, stride: strides[k] };
    } else out.push({ size, stride: strides[k] });
  });
  return { sizes: out.map((axis) => axis.size), strides: out.map((axis) => axis.stride), start };
}

/** Counts in groups of four when all sizes and strides allow it. */
function widen({ sizes, strides, start }: Walk): Walk & { readonly lanes: 4 | 1 } {
  const last = sizes.length - 1;
  const whole = last >= 0 && strides[last] === 1 &&
    [start, sizes[last], ...strides.slice(0, last)].every((n) => n % 4 === 0);
  if (!whole) return { sizes, strides, start, lanes: 1 };
  return {
    sizes: sizes.map((size, k) => k === last ? size / 4 : size),
    strides: strides.map((stride, k) => k === last ? 1 : stride / 4),
    start: start / 4,
    lanes: 4,
  };
}

/** WGSL for the index along axis k of the output item `i`. */
function coordinate(sizes: readonly number[], k: number): string {
  const inner = product(sizes.slice(k + 1));
  const index = inner === 1 ? "i" : `(i / ${inner}u)`;
  return k === 0 ? index : `(${index} % ${sizes[k]}u)`;
}

function stridesOf(shape: readonly number[]): number[] {
  return shape.map((_, k) => product(shape.slice(k + 1)));
}

function product(sizes: readonly number[]): number {
  return sizes.reduce((a, b) => a * b, 1);
}

function checkRank(action: string, ...lists: readonly (readonly number[])[]): void {
  const rank = lists[0].length;
  if (rank > MAX_RANK || lists.some((list) => list.length !== rank)) {
    throw new RangeError(
      `Cannot ${action} [${lists[0]}] as every list must have one entry an axis, ${MAX_RANK} at most: ` +
        lists.map((list) => list.length).join(", "),
    );
  }
}
