/**
 * Reductions.
 *
 * @module
 */

import { ShapeError } from "../errors.ts";
import { apply, type Op, type Tensor } from "../tensor.ts";
import { broadcast, divide, equal, multiply, subtract } from "./elementwise.ts";
import { exp } from "./functions.ts";
import { reshape, slice } from "./shape.ts";

/** Attributes of {@link reduceOp}: a run of neighbouring axes. */
export interface ReduceAttrs {
  /** First axis of the run. */
  readonly axis: number;
  /** How many axes. */
  readonly count: number;
  /** How elements are joined. */
  readonly kind: "sum" | "max";
}

/** Reduces neighbouring axes; the planner fuses what feeds it. */
export const reduceOp: Op<ReduceAttrs> = {
  name: "reduce",
  infer([input], { axis, count }) {
    if (axis < 0 || axis + count > input.shape.length) {
      throw new ShapeError("reduce", `axes ${axis} to ${axis + count - 1} must exist`, [input.shape]);
    }
    return [{ shape: input.shape.toSpliced(axis, count), dtype: "f32" }];
  },
  pullbacks: [({ inputs: [x], output, gradient, attrs: { axis, count, kind } }) => {
    const kept = x.shape.map((d, i) => i >= axis && i < axis + count ? 1 : d);
    const wide = broadcast(reshape(gradient, kept), x.shape);
    return kind === "sum" ? wide : multiply(wide, equal(x, reshape(output, kept)));
  }],
};

/** Sums each of many tensors to one number; the planner adds them up inside the kernels that make them. */
export const sumEachOp: Op<{ size: number }> = {
  name: "sumEach",
  infer(inputs, { size }) {
    if (!Number.isInteger(size) || size < inputs.length) {
      throw new RangeError(
        `Cannot apply "sumEach" as "size" must be whole and at least the number of tensors, ${inputs.length}: got ${size}`,
      );
    }
    return [{ shape: [size], dtype: "f32" }];
  },
  pullbacks: [({ inputs, gradient, index }) => {
    const { shape } = inputs[index];
    const own = gradient.shape[0] === 1 ? gradient : slice(gradient, { starts: [index], sizes: [1] });
    return broadcast(reshape(own, shape.map(() => 1)), shape);
  }],
};

/**
 * The totals of many tensors.
 *
 * @param tensors Tensors of any shape, f32
 * @param options `size`: length of the result, which is zero after the totals; as many as `tensors` when absent. What reads
 * a result of one size is the same kernel for any number of tensors
 * @returns f32 [size]
 * @throws {RangeError} When there are more tensors, or the size is not whole
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fill, openGpu, read, sumEach } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, sumEach([fill(1, [3]), fill(2, [2, 2])]))], [3, 8]);
 * ```
 */
export function sumEach(tensors: readonly Tensor[], options: { readonly size?: number } = {}): Tensor {
  const { size = tensors.length } = options;
  return apply(sumEachOp, tensors, { size });
}

function reduce(x: Tensor, options: { axes?: number | readonly number[]; kind: "sum" | "max" }): Tensor {
  const { kind } = options;
  const rank = x.shape.length;
  const axes = options.axes === undefined ? x.shape.map((_, d) => d) : [options.axes].flat();
  const sorted = axes.map((a) => a < 0 ? a + rank : a).toSorted((a, b) => b - a);
  if (new Set(sorted).size !== sorted.length) {
    throw new ShapeError("reduce", `axes [${axes}] must differ`, [x.shape]);
  }
  if (kind === "sum" && sorted.length === rank) return reshape(sumEach([x]), []);
  let result = x;
  for (let i = 0; i < sorted.length;) {
    let count = 1;
    while (sorted[i + count] === sorted[i] - count) count++;
    result = apply(reduceOp, [result], { axis: sorted[i] - count + 1, count, kind });
    i += count;
  }
  return result;
}

/**
 * Sum over axes.
 *
 * @param x f32 tensor
 * @param axes Axes to remove, negative from the end; all when absent
 * @returns f32, without those axes
 * @throws {ShapeError} When an axis is not there or named twice
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, sum, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const x = tensor([1, 2, 3, 5], [2, 2]);
 * assertEquals([...await read(gpu, sum(x, 0))], [4, 7]);
 * ```
 */
export function sum(x: Tensor, axes?: number | readonly number[]): Tensor {
  return reduce(x, { axes, kind: "sum" });
}

/**
 * Mean over axes.
 *
 * @param x f32 tensor
 * @param axes Axes to remove, negative from the end; all when absent
 * @returns f32, without those axes
 * @throws {ShapeError} When an axis is not there or named twice
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { mean, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const x = tensor([1, 2, 3, 5], [2, 2]);
 * assertEquals([...await read(gpu, mean(x, -1))], [1.5, 4]);
 * ```
 */
export function mean(x: Tensor, axes?: number | readonly number[]): Tensor {
  const total = sum(x, axes);
  const size = (shape: readonly number[]): number => shape.reduce((n, d) => n * d, 1);
  return divide(total, size(x.shape) / size(total.shape));
}

/**
 * Largest element over axes.
 *
 * @param x f32 tensor
 * @param axes Axes to remove, negative from the end; all when absent
 * @returns f32, without those axes
 * @throws {ShapeError} When an axis is not there or named twice
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { max, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const x = tensor([1, 2, 3, 5], [2, 2]);
 * assertEquals([...await read(gpu, max(x))], [5]);
 * ```
 */
export function max(x: Tensor, axes?: number | readonly number[]): Tensor {
  return reduce(x, { axes, kind: "max" });
}

/**
 * Softmax over the last axis: `exp(x - max x) / sum exp(x - max x)`.
 *
 * @param x f32 [..., C]
 * @returns f32 [..., C]
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, softmax, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, softmax(tensor([3, 3])))], [0.5, 0.5]);
 * ```
 */
export function softmax(x: Tensor): Tensor {
  const kept = [...x.shape.slice(0, -1), 1];
  const e = exp(subtract(x, reshape(max(x, -1), kept)));
  return divide(e, reshape(sum(e, -1), kept));
}
