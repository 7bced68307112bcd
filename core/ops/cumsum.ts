/**
 * Cumulative sums.
 *
 * @module
 */

import { cumsum as cumsumKernel } from "../../kernels/cumsum.ts";
import { axisOf, checkFlag, checkOptions } from "../arguments.ts";
import { apply, checkFloats, checkTensor, type Op, type Tensor } from "../tensor.ts";
import { along, batchAlong, columnThreads } from "./along.ts";

interface Attrs {
  readonly axis: number;
  readonly reverse: boolean;
}

const cumsumOp: Op<Attrs> = {
  name: "cumsum",
  batch: batchAlong,
  infer(inputs) {
    checkFloats("cumsum", inputs);
    return [{ shape: inputs[0].shape, dtype: "f32" }];
  },
  pullbacks: [
    ({ gradient, attrs: { axis, reverse } }) => apply(cumsumOp, [gradient], { axis, reverse: !reverse }),
  ],
  kernel({ inputs: [{ shape }], attrs: { axis, reverse }, target }) {
    const sizes = along(shape, axis);
    return {
      kernel: cumsumKernel({ ...sizes, reverse, threads: columnThreads(target, sizes, { reads: 2 }) }),
    };
  },
};

/**
 * Sums of each element and all before it along an axis.
 *
 * @param x f32
 * @param axis The axis, negative from the end; the last when absent
 * @param options `reverse`: whether to sum each element and all after it; false when absent
 * @returns f32 of the same shape
 * @throws {ShapeError} When the axis does not exist
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { cumsum } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, cumsum(tensor([1, 2, 3])))], [1, 3, 6]);
 * ```
 */
export function cumsum(x: Tensor, axis = -1, options: { readonly reverse?: boolean } = {}): Tensor {
  checkTensor("cumsum", x, "x");
  checkOptions("cumsum", options);
  const { reverse = false } = options;
  checkFlag("cumsum", "reverse", reverse);
  return apply(cumsumOp, [x], { axis: axisOf("cumsum", axis, x.shape), reverse });
}
