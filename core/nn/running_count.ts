/**
 * Counts along sequences.
 *
 * @module
 */

import { matmul } from "../ops/matmul.ts";
import { tensor } from "../sources.ts";
import type { Tensor } from "../tensor.ts";

/**
 * Counts marks up to and with each position.
 *
 * @param marks f32 [B, T] of 0 and 1
 * @returns f32 [B, T]
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { runningCount } from "@firn/train/nn";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, runningCount(tensor([1, 0, 1], [1, 3])))], [1, 1, 2]);
 * ```
 */
export function runningCount(marks: Tensor): Tensor {
  const time = marks.shape[1];
  const upTo = Float32Array.from({ length: time * time }, (_, i) => Math.floor(i / time) <= i % time ? 1 : 0);
  return matmul(marks, tensor(upTo, [time, time]));
}
