/**
 * Positions in packed rows.
 *
 * Axes: B batch, T time.
 *
 * @module
 */

import { add, cast, subtract } from "../ops/arithmetic.ts";
import { rangesOf } from "../ops/attention_ranges.ts";
import { cumsum } from "../ops/cumsum.ts";
import { embedding } from "../ops/embedding.ts";
import { integers } from "../ops/integers.ts";
import { reshape, slice } from "../ops/movement.ts";
import { tensor } from "../sources.ts";
import type { Tensor } from "../tensor.ts";

/**
 * Counts along each document of packed rows, from its first token on.
 *
 * @param counted f32 [B, T]: 1 for a token that counts, 0 for one that does not
 * @param segments i32 [B, T]: a document is a run of equal numbers; undefined where each row is one document
 * @returns f32 [B, T]: how many count from the first token of the document to this one
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { countInSegments } from "@firn/train/nn";
 *
 * await using gpu = await openGpu();
 * const segments = tensor(new Int32Array([4, 4, 4, 9, 9]), [1, 5]), counted = tensor([1, 0, 1, 1, 1], [1, 5]);
 * assertEquals([...await read(gpu, countInSegments(counted, segments))], [1, 1, 2, 1, 2]);
 * ```
 */
export function countInSegments(counted: Tensor, segments?: Tensor): Tensor {
  const total = cumsum(counted, 1);
  if (segments === undefined) return total;
  const [batch, time] = counted.shape, before = reshape(subtract(total, counted), [batch * time, 1]);
  const rows = tensor(Float32Array.from({ length: batch }, (_, b) => b * time), [batch, 1]);
  const first = integers(add(firstPlaces(segments), rows));
  return subtract(total, reshape(embedding(before, first), [batch, time]));
}

/**
 * Positions in packed rows: they begin at 0 in each document.
 *
 * @param segments i32 [B, T]: a document is a run of equal numbers
 * @returns i32 [B, T]
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { segmentPositions } from "@firn/train/nn";
 *
 * await using gpu = await openGpu();
 * const segments = tensor(new Int32Array([4, 4, 4, 9, 9]), [1, 5]);
 * assertEquals([...await read(gpu, segmentPositions(segments))], [0, 1, 2, 0, 1]);
 * ```
 */
export function segmentPositions(segments: Tensor): Tensor {
  const [, time] = segments.shape;
  const places = tensor(Float32Array.from({ length: time }, (_, t) => t), [1, time]);
  return integers(subtract(places, firstPlaces(segments)));
}

/** The place of the first token of each token's document, f32 [B, T]: the first key that attention sees from there. */
function firstPlaces(segments: Tensor): Tensor {
  const [batch, time] = segments.shape;
  const ranges = rangesOf({ segments }, { batch, time, keys: time, causal: true, window: null })!;
  const first = slice(cast(ranges), { starts: [0, 0, 0], sizes: [batch, time, 1] });
  return reshape(first, [batch, time]);
}
