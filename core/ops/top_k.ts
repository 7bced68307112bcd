/**
 * The largest elements along an axis, and where they are.
 *
 * @module
 */

import { topK as topKKernel } from "../../kernels/top_k.ts";
import { axisOf, checkFlag, checkOptions, refuse } from "../arguments.ts";
import { apply, checkFloats, checkTensor, type Op, pick, type Tensor } from "../tensor.ts";
import { along, batchAlong, columnThreads } from "./along.ts";
import { negate } from "./arithmetic.ts";
import type { ReduceOptions } from "./broadcast.ts";
import { scatterAddOp } from "./gather.ts";
import { reshape } from "./movement.ts";

interface Attrs {
  readonly axis: number;
  readonly count: number;
}

/** Elements that one thread looks at sooner than many share them: windows of pooling. */
const SHORT = 32;

/** Input: x [..., L, ...]. Outputs: the largest elements [..., K, ...], and their indices. */
const topKOp: Op<Attrs> = {
  name: "topK",
  batch: batchAlong,
  infer(inputs, { axis, count }) {
    checkFloats("topK", inputs);
    const shape = inputs[0].shape.with(axis, count);
    return [{ shape, dtype: "f32" }, { shape, dtype: "i32" }];
  },
  pullbacks: [
    ({ inputs: [x], output, gradient, attrs: { axis } }) =>
      apply(scatterAddOp, [gradient, pick(output, 1)], { axis, size: x.shape[axis] }),
  ],
  kernel({ inputs: [{ shape }], attrs: { axis, count }, target }) {
    const sizes = along(shape, axis),
      threads = sizes.length <= SHORT ? 1 : columnThreads(target, sizes, { reads: count });
    return { kernel: topKKernel({ ...sizes, count, threads }), writes: [0, 1] };
  },
};

/** Some elements, and where they are. */
export interface TopK {
  /** f32 [..., K, ...], the largest first. */
  readonly values: Tensor;
  /** i32 [..., K, ...], their indices along the axis. */
  readonly indices: Tensor;
}

/**
 * Finds the largest elements along an axis, the largest first. Of equal ones that of the lower index comes first; NaN counts as
 * the largest. The work grows with `k` times the size of the axis.
 *
 * @param x f32
 * @param k How many, at most the size of the axis
 * @param options `axis`: negative from the end; the last when absent
 * @returns Values, through which gradients flow, and indices
 * @throws {ShapeError} When the axis does not exist
 * @throws {InputError} When `k` is not a whole number from 1 to the size of the axis
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, readAll, tensor } from "@firn/train";
 * import { topK } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const { values, indices } = topK(tensor([5, 1, 9]), 2);
 * const seen = await readAll(gpu, [values, indices]);
 * assertEquals(seen.map((data) => [...data]), [[9, 5], [2, 0]]);
 * ```
 */
export function topK(x: Tensor, k: number, options: { readonly axis?: number } = {}): TopK {
  checkTensor("topK", x, "x");
  checkOptions("topK", options);
  const axis = axisOf("topK", options.axis ?? -1, x.shape), length = x.shape[axis];
  if (!(Number.isInteger(k) && k >= 1 && k <= length)) {
    refuse("topK", `"k" must be a whole number from 1 to the size of the axis, ${length}`, k);
  }
  const values = apply(topKOp, [x], { axis, count: k });
  return { values, indices: pick(values, 1) };
}

/**
 * Index of the largest element along an axis, of equal ones the lowest. NaN counts as the largest.
 *
 * @param x f32
 * @param axis The axis to remove, negative from the end; the last when absent
 * @param options Whether it stays with size 1
 * @returns i32, without the axis
 * @throws {ShapeError} When the axis does not exist
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { argmax } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, argmax(tensor([5, 1, 9, 7], [2, 2])))], [0, 0]);
 * ```
 */
export function argmax(x: Tensor, axis = -1, options: ReduceOptions = {}): Tensor {
  return indexOfTop("argmax", x, { axis, options });
}

/**
 * Index of the smallest element along an axis, of equal ones the lowest. NaN counts as the smallest.
 *
 * @param x f32
 * @param axis The axis to remove, negative from the end; the last when absent
 * @param options Whether it stays with size 1
 * @returns i32, without the axis
 * @throws {ShapeError} When the axis does not exist
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { argmin } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, argmin(tensor([5, 8, 9, 7], [2, 2]), 0))], [0, 1]);
 * ```
 */
export function argmin(x: Tensor, axis = -1, options: ReduceOptions = {}): Tensor {
  return indexOfTop("argmin", x, { axis, options, order: negate });
}

function indexOfTop(
  op: string,
  x: Tensor,
  { axis, options, order = (y) => y }: {
    readonly axis: number;
    readonly options: ReduceOptions;
    readonly order?: (x: Tensor) => Tensor;
  },
): Tensor {
  checkTensor(op, x, "x");
  checkFloats(op, [x]);
  checkOptions(op, options);
  const { keepDims = false } = options, place = axisOf(op, axis, x.shape);
  checkFlag(op, "keepDims", keepDims);
  const index = pick(apply(topKOp, [order(x)], { axis: place, count: 1 }), 1);
  return keepDims ? index : reshape(index, x.shape.toSpliced(place, 1));
}
