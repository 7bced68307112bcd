/**
 * Broadcasting and summation. Each is the transpose of the other, so the gradient of one is the other.
 *
 * @module
 */

import { axesOf, checkFlag, checkOptions, checkShape, refuse } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { sameShape, sizeOf, type Spec } from "../spec.ts";
import { apply, type BatchRule, checkFloats, checkTensor, type Op, type Tensor } from "../tensor.ts";
import { reshape, reshapeOp, slice } from "./movement.ts";

/**
 * Broadcasts shapes as NumPy does.
 *
 * @param name The operation, for the error
 * @param shapes Shapes of its inputs
 * @returns The common shape
 * @throws {ShapeError} When two sizes differ and neither is 1
 */
export function broadcastShape(name: string, shapes: readonly (readonly number[])[]): readonly number[] {
  // Most are the same, and a shape that several tensors have is compared at once.
  const [first = []] = shapes;
  if (shapes.every((shape) => sameShape(shape, first))) return first;
  const rank = Math.max(...shapes.map((s) => s.length));
  return Array.from({ length: rank }, (_, d) => {
    let size = 1;
    for (const shape of shapes) {
      const own = shape[d - rank + shape.length] ?? 1;
      if (own === 1) continue;
      if (size !== 1 && size !== own) throw new ShapeError(name, "shapes must broadcast", shapes);
      size = own;
    }
    return size;
  });
}

/**
 * Sums a gradient down to the shape of an input that was broadcast.
 *
 * @param gradient f32 of the broadcast shape
 * @param shape Shape of the input
 * @returns f32 of that shape
 */
export function sumTo(gradient: Tensor, shape: readonly number[]): Tensor {
  if (sameShape(gradient.shape, shape)) return gradient;
  const lead = gradient.shape.length - shape.length;
  const axes = gradient.shape.flatMap((size, d) =>
    d < lead || (shape[d - lead] === 1 && size !== 1) ? [d] : []
  );
  return reshape(sum(gradient, axes), shape);
}

/** The record of {@link broadcast}. */
export const broadcastOp: Op<{ shape: readonly number[] }> = {
  name: "broadcast",
  infer([input], { shape }) {
    checkShape("broadcast", shape);
    if (!sameShape(broadcastShape("broadcast", [input.shape, shape]), shape)) {
      throw new ShapeError("broadcast", "the input must broadcast to the shape", [input.shape, shape]);
    }
    return [{ shape, dtype: "f32" }];
  },
  pullbacks: [({ inputs, gradient }) => sumTo(gradient, inputs[0].shape)],
  element: { text: ([a]) => a, value: (a) => a },
};

/**
 * Repeats a tensor along new or size-1 axes.
 *
 * @param x f32
 * @param shape The shape to reach
 * @returns f32 of that shape
 * @throws {ShapeError} When `x` does not broadcast to it
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { broadcast, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, broadcast(tensor([1, 2], [2, 1]), [2, 3]))], [1, 1, 1, 2, 2, 2]);
 * ```
 */
export function broadcast(x: Tensor, shape: readonly number[]): Tensor {
  return apply(broadcastOp, [x], { shape });
}

/**
 * Finds the scalar that a tensor repeats.
 *
 * @param x A tensor, such as the gradient of a sum
 * @returns The scalar, shape [1]; null when `x` is not a broadcast scalar
 */
export function repeatedScalar(x: Tensor): Tensor | null {
  if (x.op === reshapeOp) return repeatedScalar(x.inputs[0]);
  if (x.op !== broadcastOp) return null;
  const [source] = x.inputs;
  return sizeOf(source.shape) === 1 ? reshape(source, [1]) : null;
}

/** Attributes of a reduction of neighbouring axes. */
export interface ReduceAttrs {
  /** First axis. */
  readonly axis: number;
  /** Number of axes. */
  readonly count: number;
  /** How elements are combined. */
  readonly kind: "sum" | "max";
}

/**
 * Output of a reduction of neighbouring axes.
 *
 * @param inputs The input
 * @param attrs The axes
 * @returns f32 without the axes
 * @throws {ShapeError} When an axis does not exist
 */
export function inferReduce([input]: readonly Spec[], { axis, count }: ReduceAttrs): readonly Spec[] {
  if (axis < 0 || axis + count > input.shape.length) {
    throw new ShapeError("reduce", `axes ${axis} to ${axis + count - 1} must exist`, [input.shape]);
  }
  return [{ shape: input.shape.toSpliced(axis, count), dtype: "f32" }];
}

/**
 * Repeats a reduced tensor along the axes that were removed.
 *
 * @param reduced f32 without the axes
 * @param options Shape before the reduction, and the axes
 * @returns f32 of that shape
 */
export function expandReduced(
  reduced: Tensor,
  { shape, axis, count }: { readonly shape: readonly number[] } & Pick<ReduceAttrs, "axis" | "count">,
): Tensor {
  return broadcast(reshape(reduced, keptShape(shape, { axis, count })), shape);
}

/** A shape whose reduced axes have size 1. */
export function keptShape(
  shape: readonly number[],
  { axis, count }: Pick<ReduceAttrs, "axis" | "count">,
): number[] {
  return shape.map((d, i) => i >= axis && i < axis + count ? 1 : d);
}

/** A reduction treats the axes before its own as a batch. */
export function batchReduce([{ shape }]: readonly Spec[], { axis }: ReduceAttrs): BatchRule {
  return { parts: sizeOf(shape.slice(0, axis)), inputs: ["split"] };
}

/** Sums neighbouring axes; the planner fuses the elementwise operations that feed it. */
export const reduceSumOp: Op<ReduceAttrs> = {
  name: "reduce",
  infer: inferReduce,
  batch: batchReduce,
  pullbacks: [
    ({ inputs: [{ shape }], gradient, attrs: { axis, count } }) =>
      expandReduced(gradient, { shape, axis, count }),
  ],
};

/** Sums each of many tensors to one number; the planner fuses the sums into the kernels that compute the tensors. */
export const sumEachOp: Op<{ size: number }> = {
  name: "sumEach",
  infer(inputs, { size }) {
    checkFloats("sumEach", inputs);
    if (!Number.isInteger(size) || size < inputs.length) {
      refuse("sumEach", `"size" must be whole and at least the number of tensors, ${inputs.length}`, size);
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
 * @param options `size`: length of the result, padded with zeros; the number of tensors when absent. With a fixed size,
 * kernels that read the result do not depend on the number of tensors
 * @returns f32 [size]
 * @throws {InputError} When there are more tensors than `size`, or it is not a whole number
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fill, openGpu, read } from "@firn/train";
 * import { sumEach } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, sumEach([fill(1, [3]), fill(2, [2, 2])]))], [3, 8]);
 * ```
 */
export function sumEach(tensors: readonly Tensor[], options: { readonly size?: number } = {}): Tensor {
  if (!Array.isArray(tensors) || tensors.length === 0) {
    refuse("sumEach", "it takes a list of at least one tensor", tensors);
  }
  checkOptions("sumEach", options);
  const { size = tensors.length } = options;
  return apply(sumEachOp, tensors, { size });
}

/**
 * Reduces axes: one run of neighbouring axes at a time, the last first.
 *
 * @param x f32
 * @param options The record of the reduction, its kind, and the axes to remove, counted from 0
 * @returns f32 without those axes
 */
export function reduceAxes(
  x: Tensor,
  { op, kind, axes }: {
    readonly op: Op<ReduceAttrs>;
    readonly kind: ReduceAttrs["kind"];
    readonly axes: readonly number[];
  },
): Tensor {
  let result = x;
  for (const { axis, count } of runsOf(axes)) result = apply(op, [result], { axis, count, kind });
  return result;
}

/** Runs of neighbouring axes, the last first. */
function runsOf(axes: readonly number[]): Pick<ReduceAttrs, "axis" | "count">[] {
  const runs: { axis: number; count: number }[] = [];
  for (const axis of axes.toSorted((a, b) => b - a)) {
    const last = runs.at(-1);
    if (last?.axis === axis + 1) runs[runs.length - 1] = { axis, count: last.count + 1 };
    else runs.push({ axis, count: 1 });
  }
  return runs;
}

/** Options of a reduction. */
export interface ReduceOptions {
  /** Whether reduced axes stay, with size 1; false when absent. */
  readonly keepDims?: boolean;
}

/**
 * The axes that a reduction removes.
 *
 * @param op The function that was called
 * @param x Its tensor
 * @param axes What it got; all when absent
 * @returns Axes counted from 0
 * @throws {InputError} When `x` is not a tensor, or an axis is not a whole number
 * @throws {ShapeError} When an axis does not exist or is named twice
 */
export function reducedAxes(op: string, x: Tensor, axes?: number | readonly number[]): number[] {
  checkTensor(op, x, "x");
  return axesOf(op, axes ?? x.shape.map((_, d) => d), x.shape);
}

/**
 * Gives a reduced tensor the axes back that options ask to keep.
 *
 * @param op The function that was called
 * @param reduced f32 without the axes
 * @param options What the function got, the shape before the reduction, and the axes counted from 0
 * @returns The same elements
 * @throws {InputError} When the options are not a record with a flag
 */
export function keepAxes(
  op: string,
  reduced: Tensor,
  { options, shape, axes }: {
    readonly options: ReduceOptions;
    readonly shape: readonly number[];
    readonly axes: readonly number[];
  },
): Tensor {
  checkOptions(op, options);
  const { keepDims = false } = options;
  checkFlag(op, "keepDims", keepDims);
  return keepDims ? reshape(reduced, shape.map((size, d) => axes.includes(d) ? 1 : size)) : reduced;
}

/**
 * Sum over axes.
 *
 * @param x f32 tensor; integers are read as f32
 * @param axes Axes to remove, negative from the end; all when absent
 * @param options Whether they stay with size 1
 * @returns f32, without those axes
 * @throws {ShapeError} When an axis does not exist or is named twice
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, sum, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const x = tensor([1, 2, 3, 5], [2, 2]);
 * assertEquals([...await read(gpu, sum(x, 0))], [4, 7]);
 * assertEquals(sum(x, 0, { keepDims: true }).shape, [1, 2]);
 * ```
 */
export function sum(x: Tensor, axes?: number | readonly number[], options: ReduceOptions = {}): Tensor {
  const removed = reducedAxes("sum", x, axes);
  const floats = x.dtype === "f32" ? x : broadcast(x, x.shape);
  const total = removed.length === x.shape.length
    ? reshape(sumEach([floats]), [])
    : reduceAxes(floats, { op: reduceSumOp, kind: "sum", axes: removed });
  return keepAxes("sum", total, { options, shape: x.shape, axes: removed });
}
