/**
 * Operations that move elements without computing.
 *
 * @module
 */

import { axesOf, axisOf, checkLists, checkOptions, checkShape, refuse } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { sizeOf, type Spec } from "../spec.ts";
import { apply, checkTensor, MOVES, type Op, type Tensor } from "../tensor.ts";
import { f16Bindings } from "./half_precision.ts";
import {
  concat as concatKernel,
  pad as padKernel,
  permute as permuteKernel,
  slice as sliceKernel,
} from "../../kernels/movement.ts";

/** Axes that the kernels of this file index. */
const MOST_AXES = 6;

function checkRank(op: string, { shape }: Spec): void {
  if (shape.length > MOST_AXES) throw new ShapeError(op, `it moves up to ${MOST_AXES} axes`, [shape]);
}

/** The record of {@link reshape}: the planner runs no kernel for it. */
export const reshapeOp: Op<{ shape: readonly number[] }> = {
  name: "reshape",
  infer([input], { shape }) {
    checkShape("reshape", shape);
    if (sizeOf(input.shape) !== sizeOf(shape)) {
      throw new ShapeError("reshape", "both shapes must hold as many elements", [input.shape, shape]);
    }
    return [{ shape, dtype: input.dtype }];
  },
  pullbacks: [({ inputs, gradient }) => reshape(gradient, inputs[0].shape)],
};

/**
 * Changes the shape of a tensor without moving elements; it is free.
 *
 * @param x The tensor
 * @param shape New shape with as many elements; one size may be -1, which stands for what is left
 * @returns `x` in that shape, same dtype
 * @throws {ShapeError} When the number of elements differs
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fill, reshape } from "@firn/train";
 *
 * assertEquals(reshape(fill(1, [2, 3]), [3, -1]).shape, [3, 2]);
 * ```
 */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  return apply(reshapeOp, [x], {
    shape: Array.isArray(shape) && shape.includes(-1) ? filled(x, shape) : shape,
  });
}

/** A shape whose size -1 is replaced by what is left. */
function filled(x: Tensor, shape: readonly number[]): readonly number[] {
  checkTensor("reshape", x, "x");
  const at = shape.indexOf(-1), rest = sizeOf(x.shape) / shape.reduce((n, d, i) => i === at ? n : n * d, 1);
  if (shape.lastIndexOf(-1) !== at) {
    throw new ShapeError("reshape", "one size alone may be -1", [x.shape, shape]);
  }
  if (!Number.isInteger(rest) || rest < 1) {
    throw new ShapeError("reshape", "the other sizes must divide the number of elements", [x.shape, shape]);
  }
  return shape.with(at, rest);
}

/** The record of {@link permute}. */
export const permuteOp: Op<{ axes: readonly number[] }> = {
  name: "permute",
  half: MOVES,
  range: { result: "moved" },
  batch: ([{ shape }], { axes }) => axes[0] === 0 ? { parts: shape[0], inputs: ["split"] } : null,
  infer([input], { axes }) {
    checkRank("permute", input);
    if (axes.length !== input.shape.length) {
      throw new ShapeError("permute", `axes must name every dimension once, not [${axes}]`, [input.shape]);
    }
    return [{ shape: axes.map((a) => input.shape[a]), dtype: input.dtype }];
  },
  pullbacks: [({ gradient, attrs }) => permute(gradient, attrs.axes.map((_, i) => attrs.axes.indexOf(i)))],
  kernel: ({ inputs, outputs, attrs }) => ({
    kernel: permuteKernel({ shape: inputs[0].shape, axes: attrs.axes, f16: f16Bindings(inputs, outputs) }),
  }),
};

/**
 * Reorders dimensions.
 *
 * @param x The tensor
 * @param axes `axes[i]` is the dimension of `x` that becomes dimension `i`, negative from the end
 * @returns A copy in the new order
 * @throws {ShapeError} When `axes` is not a permutation
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, permute, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const x = tensor([1, 2, 3, 4, 5, 6], [2, 3]);
 * assertEquals([...await read(gpu, permute(x, [1, 0]))], [1, 4, 2, 5, 3, 6]);
 * ```
 */
export function permute(x: Tensor, axes: readonly number[]): Tensor {
  checkTensor("permute", x, "x");
  return apply(permuteOp, [x], { axes: axesOf("permute", axes, x.shape) });
}

/** The record of {@link slice}. */
export const sliceOp: Op<{ starts: readonly number[]; sizes: readonly number[] }> = {
  name: "slice",
  half: MOVES,
  range: { result: "moved" },
  batch: ([{ shape }], { sizes }) => sizes[0] === shape[0] ? { parts: shape[0], inputs: ["split"] } : null,
  infer([input], { starts, sizes }) {
    checkRank("slice", input);
    checkLists("slice", { starts, sizes }, input.shape);
    if (input.shape.some((d, i) => sizes[i] < 1 || starts[i] + sizes[i] > d)) {
      throw new ShapeError("slice", `[${starts}] + [${sizes}] must lie inside`, [input.shape]);
    }
    return [{ shape: sizes, dtype: input.dtype }];
  },
  pullbacks: [({ inputs, gradient, attrs }) =>
    pad(gradient, {
      before: attrs.starts,
      after: inputs[0].shape.map((d, i) => d - attrs.starts[i] - attrs.sizes[i]),
    })],
  kernel: ({ inputs, outputs, attrs }) => ({
    kernel: sliceKernel({ shape: inputs[0].shape, ...attrs, f16: f16Bindings(inputs, outputs) }),
  }),
};

/**
 * Copies a block of a tensor.
 *
 * @param x The tensor
 * @param options `starts` and `sizes` along every dimension
 * @returns A copy of the block
 * @throws {ShapeError} When the block is not inside
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, slice, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const x = tensor([1, 2, 3, 4, 5, 6], [2, 3]);
 * assertEquals([...await read(gpu, slice(x, { starts: [0, 1], sizes: [2, 2] }))], [2, 3, 5, 6]);
 * ```
 */
export function slice(
  x: Tensor,
  options: { readonly starts: readonly number[]; readonly sizes: readonly number[] },
): Tensor {
  checkOptions("slice", options, "its options must be a record of starts and sizes");
  return apply(sliceOp, [x], { starts: options.starts, sizes: options.sizes });
}

/** The record of {@link pad}. */
export const padOp: Op<{ before: readonly number[]; after: readonly number[] }> = {
  name: "pad",
  half: MOVES,
  range: { result: "moved" },
  batch: ([{ shape }], { before, after }) =>
    before[0] === 0 && after[0] === 0 ? { parts: shape[0], inputs: ["split"] } : null,
  infer([input], { before, after }) {
    checkRank("pad", input);
    checkLists("pad", { before, after }, input.shape);
    return [{ shape: input.shape.map((d, i) => before[i] + d + after[i]), dtype: input.dtype }];
  },
  pullbacks: [
    ({ inputs, gradient, attrs }) => slice(gradient, { starts: attrs.before, sizes: inputs[0].shape }),
  ],
  kernel: ({ inputs, outputs, attrs }) => ({
    kernel: padKernel({ shape: inputs[0].shape, ...attrs, f16: f16Bindings(inputs, outputs) }),
  }),
};

/**
 * Pads a tensor with zeros.
 *
 * @param x The tensor
 * @param options Zeros `before` and `after` along every dimension
 * @returns The larger tensor
 * @throws {ShapeError} When a list does not have a whole number from 0 for each dimension
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { pad } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, pad(tensor([1, 2]), { before: [1], after: [2] }))], [0, 1, 2, 0, 0]);
 * ```
 */
export function pad(
  x: Tensor,
  options: { readonly before: readonly number[]; readonly after: readonly number[] },
): Tensor {
  checkOptions("pad", options, "its options must be a record of before and after");
  return apply(padOp, [x], { before: options.before, after: options.after });
}

/** Most inputs of one kernel: every WebGPU adapter can bind eight buffers. */
const MOST_JOINED = 7;

/** The record of {@link concat}. */
export const concatOp: Op<{ axis: number }> = {
  name: "concat",
  half: { ...MOVES, reads: "all" },
  range: { result: "moved" },
  batch: ([{ shape }], { axis }) => axis > 0 ? { parts: shape[0], inputs: ["split"] } : null,
  infer(inputs, { axis }) {
    checkRank("concat", inputs[0]);
    const [{ shape, dtype }] = inputs;
    const fits = inputs.every((input) =>
      input.dtype === dtype && input.shape.length === shape.length &&
      input.shape.every((size, d) => d === axis || size === shape[d])
    );
    if (!fits) {
      const shapes = inputs.map((input) => input.shape);
      const rule = `all must be ${dtype} and alike but for their sizes along axis ${axis}`;
      throw new ShapeError("concat", rule, shapes);
    }
    return [{ shape: shape.with(axis, inputs.reduce((n, input) => n + input.shape[axis], 0)), dtype }];
  },
  pullbacks: [({ inputs, gradient, index, attrs: { axis } }) => {
    const before = inputs.slice(0, index).reduce((n, input) => n + input.shape[axis], 0);
    const { shape } = inputs[index];
    return slice(gradient, { starts: shape.map((_, d) => d === axis ? before : 0), sizes: shape });
  }],
  kernel: ({ inputs, outputs, attrs }) => ({
    kernel: concatKernel({
      shapes: inputs.map((input) => input.shape),
      axis: attrs.axis,
      f16: f16Bindings(inputs, outputs),
    }),
  }),
};

/**
 * Concatenates tensors along an axis.
 *
 * @param tensors At least one, of equal dtype, and of equal shape except along the axis
 * @param axis The axis, negative from the end
 * @returns The tensors in order, as one
 * @throws {ShapeError} When they differ elsewhere, or the axis does not exist
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { concat, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, concat([tensor([1, 2]), tensor([3])], 0))], [1, 2, 3]);
 * ```
 */
export function concat(tensors: readonly Tensor[], axis: number): Tensor {
  if (!Array.isArray(tensors) || tensors.length === 0) {
    refuse("concat", "it takes a list of at least one tensor", tensors);
  }
  checkTensor("concat", tensors[0], "tensors[0]");
  return joined(tensors, axisOf("concat", axis, tensors[0].shape));
}

function joined(tensors: readonly Tensor[], axis: number): Tensor {
  if (tensors.length === 1) return tensors[0];
  if (tensors.length <= MOST_JOINED) return apply(concatOp, tensors, { axis });
  const parts = Array.from(
    { length: Math.ceil(tensors.length / MOST_JOINED) },
    (_, i) => joined(tensors.slice(i * MOST_JOINED, (i + 1) * MOST_JOINED), axis),
  );
  return joined(parts, axis);
}
