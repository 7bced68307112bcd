/**
 * Elements by index along an axis, and sums of elements by index.
 *
 * @module
 */

import {
  gather as gatherKernel,
  type GatherOptions,
  scatterAdd as scatterAddKernel,
} from "../../kernels/gather.ts";
import { axisOf, checkOptions } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { sameShape, type Spec } from "../spec.ts";
import { apply, checkFloats, checkTensor, type Op, type Tensor } from "../tensor.ts";
import { along, batchAlong } from "./along.ts";
import { add, multiply } from "./arithmetic.ts";
import { expandDims } from "./axes.ts";
import { sum } from "./broadcast.ts";
import { checkIds } from "./ids.ts";
import { oneHot } from "./one_hot.ts";
import { permute } from "./movement.ts";

interface GatherAttrs {
  readonly axis: number;
}

interface ScatterAttrs extends GatherAttrs {
  /** Size of the axis of the output. */
  readonly size: number;
}

/** Whether two shapes differ along an axis alone. */
function fits(a: readonly number[], b: readonly number[], axis: number): boolean {
  return a.length === b.length && sameShape(a.with(axis, 1), b.with(axis, 1));
}

function sizesOf(whole: readonly number[], indices: readonly number[], axis: number): GatherOptions {
  return { ...along(whole, axis), count: indices[axis] };
}

/** Rows that are 1 at an index: the indices [..., K, ...] as f32 [..., K, ..., L]. */
const hot = (indices: Tensor, length: number): Tensor => oneHot(indices, length);

/** Inputs: x [..., L, ...] and indices [..., K, ...]. Output: f32 of the shape of the indices. */
export const gatherOp: Op<GatherAttrs> = {
  name: "gather",
  batch: (inputs, attrs) => attrs.axis === 0 ? null : batchAlong(inputs, attrs),
  infer([x, indices], { axis }) {
    checkFloats("gather", [x]);
    checkIndices("gather", { x, indices, axis });
    return [{ shape: indices.shape, dtype: "f32" }];
  },
  pullbacks: [
    ({ inputs: [x, indices], gradient, attrs: { axis } }) =>
      apply(scatterAddOp, [gradient, indices], { axis, size: x.shape[axis] }),
    "flat",
  ],
  kernel: ({ inputs: [x, indices], attrs: { axis } }) => ({
    kernel: gatherKernel(sizesOf(x.shape, indices.shape, axis)),
  }),
  definition([x, indices], { axis }) {
    // [..., 1, ..., L] times [..., K, ..., L].
    const order = [...x.shape.keys()].filter((d) => d !== axis);
    const last = expandDims(permute(x, [...order, axis]), axis);
    return [sum(multiply(last, hot(indices, x.shape[axis])), -1)];
  },
};

/** Inputs: x [..., K, ...] and indices of that shape. Output: sums [..., L, ...]. */
export const scatterAddOp: Op<ScatterAttrs> = {
  name: "scatterAdd",
  batch: (inputs, attrs) => attrs.axis === 0 ? null : batchAlong(inputs, attrs),
  infer: ([{ shape }], { axis, size }) => [{ shape: shape.with(axis, size), dtype: "f32" }],
  pullbacks: [
    ({ inputs: [, indices], gradient, attrs: { axis } }) => apply(gatherOp, [gradient, indices], { axis }),
    "flat",
  ],
  kernel: ({ inputs: [, indices], outputs: [{ shape }], attrs: { axis } }) => ({
    kernel: scatterAddKernel(sizesOf(shape, indices.shape, axis)),
  }),
  definition([x, indices], { axis, size }) {
    const sums = sum(multiply(expandDims(x, -1), hot(indices, size)), axis);
    const order = [...sums.shape.keys()].slice(0, -1);
    return [permute(sums, order.toSpliced(axis, 0, order.length))];
  },
};

function checkIndices(
  op: string,
  { x, indices, axis }: { readonly x: Spec; readonly indices: Spec; readonly axis: number },
): void {
  if (indices.dtype !== "i32") {
    throw new ShapeError(op, `indices must be i32, not ${indices.dtype}`, [indices.shape]);
  }
  if (!fits(x.shape, indices.shape, axis)) {
    throw new ShapeError(op, `x and indices must be alike but for axis ${axis}`, [x.shape, indices.shape]);
  }
}

/** Options of {@link gather} and {@link scatterAdd}. */
export interface GatherAxis {
  /** The axis, negative from the end; the last when absent. */
  readonly axis?: number;
}

/**
 * Takes elements along an axis, as `torch.gather` and `jnp.take_along_axis` do: for axis 1 of a matrix
 * `out[i, k] = x[i, indices[i, k]]`. The gradient sums in a fixed order: no float atomics.
 *
 * @param x f32
 * @param indices i32, of the shape of `x` but for the axis; an index outside is refused in a tensor of values, and gives NaN
 * in all others
 * @param options The axis
 * @returns f32 of the shape of the indices
 * @throws {ShapeError} When the shapes do not fit, or the indices are not i32
 * @throws {InputError} When a tensor of values has an index outside the axis
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { gather } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const x = tensor([1, 2, 3, 4], [2, 2]), indices = tensor(new Int32Array([1, 0]), [2, 1]);
 * assertEquals([...await read(gpu, gather(x, indices))], [2, 3]);
 * ```
 */
export function gather(x: Tensor, indices: Tensor, options: GatherAxis = {}): Tensor {
  checkTensor("gather", x, "x");
  checkTensor("gather", indices, "indices");
  checkOptions("gather", options);
  const axis = axisOf("gather", options.axis ?? -1, x.shape);
  const result = apply(gatherOp, [x, indices], { axis });
  checkIds("gather", indices, { classes: x.shape[axis] });
  return result;
}

/**
 * Adds elements to those of another tensor by index along an axis, as `torch.scatter_add` does: for axis 1 of a matrix
 * `out[i, indices[i, k]] += updates[i, k]`. Sums are made in a fixed order: no float atomics. Each element of the result looks
 * at all indices of its column.
 *
 * @param x f32
 * @param scatter `updates` f32 and `indices` i32 of one shape, that of `x` but for the axis; an index outside is refused in a
 * tensor of values, and ignored in all others
 * @param options The axis
 * @returns f32 of the shape of `x`
 * @throws {ShapeError} When the shapes do not fit, or the indices are not i32
 * @throws {InputError} When a tensor of values has an index outside the axis
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fill, openGpu, read, tensor } from "@firn/train";
 * import { scatterAdd } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const indices = tensor(new Int32Array([2, 0, 2])), updates = tensor([1, 2, 3]);
 * assertEquals([...await read(gpu, scatterAdd(fill(10, [3]), { indices, updates }))], [12, 10, 14]);
 * ```
 */
export function scatterAdd(
  x: Tensor,
  scatter: { readonly indices: Tensor; readonly updates: Tensor },
  options: GatherAxis = {},
): Tensor {
  checkTensor("scatterAdd", x, "x");
  checkOptions("scatterAdd", scatter, "its second argument must be a record of indices and updates");
  const { indices, updates } = scatter;
  checkTensor("scatterAdd", indices, "indices");
  checkTensor("scatterAdd", updates, "updates");
  checkOptions("scatterAdd", options);
  checkFloats("scatterAdd", [x, updates]);
  const axis = axisOf("scatterAdd", options.axis ?? -1, x.shape);
  checkIndices("scatterAdd", { x, indices, axis });
  if (!sameShape(indices.shape, updates.shape)) {
    throw new ShapeError("scatterAdd", "indices and updates must have one shape", [
      indices.shape,
      updates.shape,
    ]);
  }
  checkIds("scatterAdd", indices, { classes: x.shape[axis] });
  return add(x, apply(scatterAddOp, [updates, indices], { axis, size: x.shape[axis] }));
}
