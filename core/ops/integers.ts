/**
 * Computed numbers as ids.
 *
 * @module
 */

import { integers as integersKernel } from "../../kernels/integers.ts";
import { ShapeError } from "../errors.ts";
import { sizeOf } from "../spec.ts";
import { apply, type Op, type Tensor } from "../tensor.ts";

const integersOp: Op<null> = {
  name: "integers",
  infer([{ shape, dtype }]) {
    if (dtype !== "f32") throw new ShapeError("integers", `the numbers must be f32, not ${dtype}`, [shape]);
    return [{ shape, dtype: "i32" }];
  },
  batch: ([{ shape }]) => ({ parts: sizeOf(shape), inputs: ["split"] }),
  kernel: ({ inputs: [{ shape }] }) => ({ kernel: integersKernel({ items: sizeOf(shape) }) }),
};

/**
 * Rounds numbers to i32, such as positions that were computed, to look up rows by them. No gradient flows through it.
 *
 * @param x f32 of any shape, numbers below 2^24
 * @returns i32 of the same shape
 * @throws {ShapeError} When they are not f32
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { add, openGpu, read, tensor } from "@firn/train";
 * import { integers } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const next = integers(add(tensor(new Int32Array([3, 4])), 1));
 * assertEquals([next.dtype, ...await read(gpu, next)], ["i32", 4, 5]);
 * ```
 */
export function integers(x: Tensor): Tensor {
  return apply(integersOp, [x], null);
}
