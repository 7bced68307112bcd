/**
 * Axes in reverse order.
 *
 * @module
 */

import { flip as flipKernel } from "../../kernels/flip.ts";
import { axesOf } from "../arguments.ts";
import { apply, checkTensor, type Op, type Tensor } from "../tensor.ts";
import { along, batchAlong } from "./along.ts";

interface Attrs {
  readonly axis: number;
}

const flipOp: Op<Attrs> = {
  name: "flip",
  batch: (inputs, attrs) => attrs.axis === 0 ? null : batchAlong(inputs, attrs),
  infer: ([{ shape, dtype }]) => [{ shape, dtype }],
  pullbacks: [({ gradient, attrs }) => apply(flipOp, [gradient], attrs)],
  kernel: ({ inputs: [{ shape }], attrs: { axis } }) => ({ kernel: flipKernel(along(shape, axis)) }),
};

/**
 * Reverses the order of elements along axes.
 *
 * @param x The tensor
 * @param axes Axes, negative from the end; all when absent
 * @returns A copy, same dtype
 * @throws {ShapeError} When an axis does not exist or is named twice
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { flip } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, flip(tensor([1, 2, 3])))], [3, 2, 1]);
 * ```
 */
export function flip(x: Tensor, axes?: number | readonly number[]): Tensor {
  checkTensor("flip", x, "x");
  return axesOf("flip", axes ?? [...x.shape.keys()], x.shape)
    .reduce((y, axis) => apply(flipOp, [y], { axis }), x);
}
