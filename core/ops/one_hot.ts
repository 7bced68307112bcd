/**
 * Ids as rows of zeros with a one.
 *
 * @module
 */

import { refuse } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { checkTensor, type Tensor } from "../tensor.ts";
import { arange } from "./arange.ts";
import { cast } from "./arithmetic.ts";
import { equal } from "./comparison.ts";
import { checkIds } from "./ids.ts";
import { reshape } from "./movement.ts";

/**
 * Rows that are 1 at an id and 0 elsewhere. No gradient flows through it.
 *
 * @param ids i32 [...]; an id that is no class is refused in a tensor of values, and gives a row of zeros in all others
 * @param classes The number of classes V
 * @returns f32 [..., V]
 * @throws {ShapeError} When the ids are not i32
 * @throws {InputError} When a tensor of values has an id that is no class
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { oneHot } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, oneHot(tensor(new Int32Array([2, 0])), 3))], [0, 0, 1, 1, 0, 0]);
 * ```
 */
export function oneHot(ids: Tensor, classes: number): Tensor {
  checkTensor("oneHot", ids, "ids");
  if (ids.dtype !== "i32") throw new ShapeError("oneHot", `ids must be i32, not ${ids.dtype}`, [ids.shape]);
  if (!(Number.isInteger(classes) && classes > 0 && classes < 2 ** 24)) {
    refuse("oneHot", '"classes" must be a whole number above 0 and below 2^24', classes);
  }
  checkIds("oneHot", ids, { classes });
  return equal(cast(reshape(ids, [...ids.shape, 1])), arange(classes, { dtype: "f32" }));
}
