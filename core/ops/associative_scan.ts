/**
 * Scans with any associative operation.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { axisOf, checkFlag, checkOptions, refuse } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { sameShape } from "../spec.ts";
import { checkFloats, checkTensor, type Tensor } from "../tensor.ts";
import { along } from "./along.ts";
import { flip } from "./flip.ts";
import { concat, reshape, slice } from "./movement.ts";

/**
 * Combines neighbours: lists of tensors, those at some places and those at the places that follow. It works on all places along
 * the axis at once, and must be associative.
 */
export type Combine = (before: readonly Tensor[], after: readonly Tensor[]) => readonly Tensor[];

/** Options of {@link associativeScan}. */
export interface ScanOptions {
  /** The axis of all tensors, negative from the end; the first when absent. */
  readonly axis?: number;
  /** Whether to scan from the end, where `before` are the elements nearer to the end; false when absent. */
  readonly reverse?: boolean;
}

/**
 * Combines each element with all before it, in a number of steps that grows with the logarithm of their number.
 *
 * Source: Blelloch 1990, "Prefix sums and their applications"; as `jax.lax.associative_scan`.
 *
 * @param combine Associative; from two lists of tensors to one, element by element along the axis
 * @param elements f32, of equal size along the axis
 * @param options Axis and direction
 * @returns Tensors of the shapes of the elements: at each place all up to it, combined
 * @throws {ShapeError} When sizes along the axis differ, or `combine` changes a shape
 * @throws {InputError} When `combine` is no function, or gives another number of tensors
 *
 * @example A linear recurrence `h[t] = a[t] h[t - 1] + b[t]`
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { add, multiply, openGpu, read, tensor } from "@firn/train";
 * import { associativeScan } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const a = tensor([2, 3, 4]), b = tensor([1, 1, 1]);
 * const [, h] = associativeScan(
 *   ([a0, b0], [a1, b1]) => [multiply(a0, a1), add(multiply(a1, b0), b1)],
 *   [a, b],
 * );
 * assertEquals([...await read(gpu, h)], [1, 4, 17]);
 * ```
 */
export function associativeScan(
  combine: Combine,
  elements: readonly Tensor[],
  options: ScanOptions = {},
): Tensor[] {
  if (typeof combine !== "function") refuse("associativeScan", '"combine" must be a function', combine);
  if (!Array.isArray(elements) || elements.length === 0) {
    refuse("associativeScan", "elements are a list of at least one tensor", elements);
  }
  elements.forEach((x, i) => checkTensor("associativeScan", x, `elements[${i}]`));
  checkFloats("associativeScan", elements);
  checkOptions("associativeScan", options);
  const { reverse = false } = options;
  checkFlag("associativeScan", "reverse", reverse);
  const axes = elements.map(({ shape }) => axisOf("associativeScan", options.axis ?? 0, shape));
  const length = elements[0].shape[axes[0]];
  if (elements.some(({ shape }, i) => shape[axes[i]] !== length)) {
    const rule = "elements must have one size along the axis";
    throw new ShapeError("associativeScan", rule, elements.map(({ shape }) => shape));
  }
  const turned = (all: readonly Tensor[]): Tensor[] => all.map((x, i) => reverse ? flip(x, axes[i]) : x);
  return turned(scan(turned(elements), { combine: checked(combine), axes }));
}

/** A combination that must keep the number and the shapes of its tensors. */
function checked(combine: Combine): Combine {
  return (before, after) => {
    const all = combine(before, after);
    if (!Array.isArray(all) || all.length !== before.length) {
      refuse("associativeScan", `"combine" must give a list of ${counted(before.length, "tensor")}`, all);
    }
    all.forEach((x, i) => checkTensor("associativeScan", x, `combine(...)[${i}]`));
    checkFloats("associativeScan", all);
    const wrong = all.findIndex((x, i) => !sameShape(x.shape, before[i].shape));
    if (wrong < 0) return all;
    throw new ShapeError("associativeScan", '"combine" must keep shapes', [
      before[wrong].shape,
      all[wrong].shape,
    ]);
  };
}

interface Scan {
  readonly combine: Combine;
  readonly axes: readonly number[];
}

function scan(all: readonly Tensor[], { combine, axes }: Scan): readonly Tensor[] {
  const length = all[0].shape[axes[0]], half = length >> 1;
  if (half === 0) return all;
  const each = (read: (x: Tensor, axis: number) => Tensor): Tensor[] => all.map((x, i) => read(x, axes[i]));
  // Pairs are combined, scanned, and give the odd places. Each gives the even place after it as well.
  const even = each((x, axis) => everySecond(x, { axis, start: 0 }));
  const odd = scan(combine(even, each((x, axis) => everySecond(x, { axis, start: 1 }))), { combine, axes });
  const first = each((x, axis) => cut(x, { axis, start: 0, size: 1 }));
  if (length === 2) return first.map((x, i) => joined(x, odd[i], axes[i]));
  const count = length - half - 1;
  const rest = combine(
    odd.map((x, i) => cut(x, { axis: axes[i], start: 0, size: count })),
    each((x, axis) => everySecond(x, { axis, start: 2 })),
  );
  return first.map((x, i) => interleaved(joined(x, rest[i], axes[i]), odd[i], axes[i]));
}

/** A range of places along an axis. */
function cut(
  x: Tensor,
  { axis, start, size }: { readonly axis: number; readonly start: number; readonly size: number },
): Tensor {
  const { outer, length, inner } = along(x.shape, axis);
  const part = slice(reshape(x, [outer, length, inner]), {
    starts: [0, start, 0],
    sizes: [outer, size, inner],
  });
  return reshape(part, x.shape.with(axis, size));
}

/** Tensors one after the other along an axis. */
function joined(first: Tensor, second: Tensor, axis: number): Tensor {
  const parts = [first, second].map((x) => {
    const { outer, length, inner } = along(x.shape, axis);
    return reshape(x, [outer, length, inner]);
  });
  return reshape(concat(parts, 1), first.shape.with(axis, first.shape[axis] + second.shape[axis]));
}

/** Each second place, from 0 or 1 on of whole pairs, or from 2 on. */
function everySecond(x: Tensor, { axis, start }: { readonly axis: number; readonly start: number }): Tensor {
  const { outer, length, inner } = along(x.shape, axis);
  // Places are the first or the second ones of pairs. From 2 on, an odd number leaves pairs that begin with 1.
  const side = start === 1 || (start === 2 && length % 2 === 1) ? 1 : 0, from = start - side;
  const pairs = (length - from) >> 1;
  const whole = cut(x, { axis, start: from, size: 2 * pairs });
  const part = slice(reshape(whole, [outer, pairs, 2 * inner]), {
    starts: [0, 0, side * inner],
    sizes: [outer, pairs, inner],
  });
  return reshape(part, x.shape.with(axis, pairs));
}

/** Elements of two tensors in turn; the first may have one more. */
function interleaved(even: Tensor, odd: Tensor, axis: number): Tensor {
  const { outer, length: pairs, inner } = along(odd.shape, axis), size = even.shape[axis];
  const ahead = reshape(cut(even, { axis, start: 0, size: pairs }), [outer, pairs, inner]);
  const both = concat([ahead, reshape(odd, [outer, pairs, inner])], 2);
  const paired = reshape(both, even.shape.with(axis, 2 * pairs));
  return size === pairs ? paired : joined(paired, cut(even, { axis, start: pairs, size: 1 }), axis);
}
