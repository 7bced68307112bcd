/**
 * Padding of sequences.
 *
 * Axes: B batch, T time.
 *
 * @module
 */

import type { AttentionLimits } from "../ops/attention_ranges.ts";
import { cast, multiply, subtract } from "../ops/arithmetic.ts";
import { integers } from "../ops/integers.ts";
import { max } from "../ops/reduce.ts";
import { InputError } from "../errors.ts";
import { hostValues, isHost, tensor } from "../sources.ts";
import type { Tensor } from "../tensor.ts";

/**
 * Where the tokens of each sequence begin and end.
 *
 * @param mask i32 [B, T]: 1 for a token, 0 for padding, which stands before or after all tokens of its row; undefined for none
 * @returns The limits of attention; none without a mask
 * @throws {InputError} When a mask of values has padding between tokens, or a number that is not 0 or 1
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, readAll, tensor } from "@firn/train";
 * import { paddingLimits } from "@firn/train/nn";
 *
 * await using gpu = await openGpu();
 * const mask = tensor(new Int32Array([0, 1, 1, 0, 1, 1, 1, 1]), [2, 4]);
 * const { starts, lengths } = paddingLimits(mask);
 * const [first, end] = await readAll(gpu, [starts!, lengths!]);
 * assertEquals([...first, ...end], [1, 0, 3, 4]);
 * ```
 */
export function paddingLimits(mask: Tensor | undefined): AttentionLimits {
  if (mask === undefined) return {};
  checkPadding(mask);
  const time = mask.shape[1], token = cast(mask);
  const places = (value: (t: number) => number): Tensor =>
    tensor(Float32Array.from({ length: time }, (_, t) => value(t)), [1, time]);
  const farthest = (distance: (t: number) => number): Tensor => max(multiply(token, places(distance)), 1);
  return {
    starts: integers(subtract(time, farthest((t) => time - t))),
    lengths: integers(farthest((t) => t + 1)),
  };
}

/**
 * Refuses a mask that no attention to a range of keys can honour.
 *
 * @param mask i32 [B, T]; only a tensor of values is checked
 * @throws {InputError} When padding stands between tokens, or a number is not 0 or 1
 */
export function checkPadding(mask: Tensor): void {
  if (!isHost(mask)) return;
  const values = hostValues(mask, "attentionMask"), time = mask.shape[1];
  for (let start = 0; start < values.length; start += time) {
    const row = Array.from(values.subarray(start, start + time));
    if (/^0*1*0*$/.test(row.join(""))) continue;
    throw new InputError(
      `Cannot use row ${
        start / time
      } of "attentionMask" as it must be 1 for tokens and 0 for padding before or after ` +
        `them: [${row.slice(0, 16)}${row.length > 16 ? ", ..." : ""}]`,
    );
  }
}
