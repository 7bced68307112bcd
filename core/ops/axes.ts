/**
 * Axes of size 1, and tensors side by side: reshapes, slices and joins.
 *
 * @module
 */

import { axesOf, axisOf, checkOptions, refuse } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { sameShape } from "../spec.ts";
import { checkTensor, type Tensor } from "../tensor.ts";
import { concat, reshape, slice } from "./movement.ts";

/**
 * Removes axes of size 1; it is free.
 *
 * @param x The tensor
 * @param axes Axes of size 1, negative from the end; all such axes when absent
 * @returns `x` without them, same dtype
 * @throws {ShapeError} When an axis does not exist, is named twice or has another size
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fill } from "@firn/train";
 * import { squeeze } from "@firn/train/ops";
 *
 * assertEquals(squeeze(fill(1, [1, 3, 1])).shape, [3]);
 * assertEquals(squeeze(fill(1, [1, 3, 1]), -1).shape, [1, 3]);
 * ```
 */
export function squeeze(x: Tensor, axes?: number | readonly number[]): Tensor {
  checkTensor("squeeze", x, "x");
  const { shape } = x;
  const removed = axes === undefined
    ? shape.flatMap((size, d) => size === 1 ? [d] : [])
    : axesOf("squeeze", axes, shape);
  if (removed.some((d) => shape[d] !== 1)) {
    throw new ShapeError("squeeze", `axes [${removed}] must have size 1`, [shape]);
  }
  return reshape(x, shape.filter((_, d) => !removed.includes(d)));
}

/**
 * Inserts axes of size 1; it is free.
 *
 * @param x The tensor
 * @param axes Where the new axes are in the result, negative from the end
 * @returns `x` with them, same dtype
 * @throws {ShapeError} When an axis is not in the result or is named twice
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fill } from "@firn/train";
 * import { expandDims } from "@firn/train/ops";
 *
 * assertEquals(expandDims(fill(1, [3]), 0).shape, [1, 3]);
 * assertEquals(expandDims(fill(1, [3]), [0, -1]).shape, [1, 3, 1]);
 * ```
 */
export function expandDims(x: Tensor, axes: number | readonly number[]): Tensor {
  checkTensor("expandDims", x, "x");
  const count = Array.isArray(axes) ? axes.length : 1;
  const shape = Array.from({ length: x.shape.length + count }, () => 1);
  const added = new Set(axesOf("expandDims", axes, shape)), sizes = x.shape.values();
  return reshape(x, shape.map((one, d) => added.has(d) ? one : sizes.next().value!));
}

/**
 * Joins tensors of one shape along a new axis.
 *
 * @param tensors At least one, all of equal shape and dtype
 * @param axis Where the new axis is in the result, negative from the end; the first when absent
 * @returns The tensors in order, as one
 * @throws {ShapeError} When they differ, or the axis is not in the result
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { stack } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, stack([tensor([1, 2]), tensor([3, 4])], -1))], [1, 3, 2, 4]);
 * ```
 */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  if (!Array.isArray(tensors) || tensors.length === 0) {
    refuse("stack", "it takes a list of at least one tensor", tensors);
  }
  tensors.forEach((x, i) => checkTensor("stack", x, `tensors[${i}]`));
  const [{ shape, dtype }] = tensors;
  if (!tensors.every((x) => sameShape(x.shape, shape) && x.dtype === dtype)) {
    throw new ShapeError("stack", `all must be ${dtype} of one shape`, tensors.map((x) => x.shape));
  }
  const place = axisOf("stack", axis, [...shape, 1]);
  return concat(tensors.map((x) => reshape(x, shape.toSpliced(place, 0, 1))), place);
}

/**
 * Cuts a tensor into parts along an axis.
 *
 * @param x The tensor
 * @param parts The number of equal parts, or the size of each part
 * @param options `axis`: negative from the end; the first when absent
 * @returns The parts in order, same dtype
 * @throws {ShapeError} When the parts do not add up to the size of the axis, or the axis does not exist
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fill } from "@firn/train";
 * import { split } from "@firn/train/ops";
 *
 * assertEquals(split(fill(1, [6, 2]), 3).map(({ shape }) => shape), [[2, 2], [2, 2], [2, 2]]);
 * assertEquals(split(fill(1, [2, 3]), [1, 2], { axis: -1 }).map(({ shape }) => shape), [[2, 1], [2, 2]]);
 * ```
 */
export function split(
  x: Tensor,
  parts: number | readonly number[],
  options: { readonly axis?: number } = {},
): Tensor[] {
  checkTensor("split", x, "x");
  checkOptions("split", options);
  const { shape } = x, axis = axisOf("split", options.axis ?? 0, shape);
  const sizes = typeof parts === "number"
    ? Array.from({ length: equalParts(parts, shape[axis]) }, () => shape[axis] / parts)
    : parts;
  if (!Array.isArray(sizes) || !sizes.every((n) => Number.isInteger(n) && n > 0)) {
    refuse("split", "parts are a number that divides the axis, or a list of sizes above 0", parts);
  }
  if (sizes.reduce((n, size) => n + size, 0) !== shape[axis]) {
    throw new ShapeError("split", `sizes [${sizes}] must add up to axis ${axis}`, [shape]);
  }
  let from = 0;
  return sizes.map((size) => {
    const start = from;
    from += size;
    return slice(x, { starts: shape.map((_, d) => d === axis ? start : 0), sizes: shape.with(axis, size) });
  });
}

/** A number of parts that divides a size; 0 where it does not, which no list of sizes has. */
function equalParts(parts: number, size: number): number {
  if (Number.isInteger(parts) && parts > 0 && size % parts === 0) return parts;
  return refuse("split", `the number of parts must divide the size of the axis, ${size}`, parts);
}
