/**
 * Keys and values of new tokens, placed in a cache.
 *
 * Axes: B sequences, T new tokens, S places, H query heads, G key heads, D head size, R rotated elements.
 *
 * @module
 */

import { placeHeads as placeHeadsKernel } from "../../kernels/place_heads.ts";
import { ShapeError } from "../errors.ts";
import { sameShape } from "../spec.ts";
import { apply, type Op, pick, type Tensor } from "../tensor.ts";

/**
 * Inputs: leaves of keys and values [B, S, G, D], queries [B, T, H, D], keys and values [B, T, G, D], angles [B T, R] and places
 * i32 [B]. Outputs: both leaves with the new rows, in the same buffers, and the rotated queries.
 */
const placeHeadsOp: Op<null> = {
  name: "placeHeads",
  inPlace: 2,
  infer([keys, values, q, k, v, angles, at]) {
    const [batch, time] = q.shape, { shape } = keys;
    const fits = sameShape(shape, values.shape) && sameShape(k.shape, v.shape) &&
      sameShape(k.shape, shape.with(1, time)) && q.shape[3] === shape[3] && q.shape[2] % shape[2] === 0 &&
      angles.shape[0] === batch * time && sameShape(at.shape, [batch]);
    if (fits) return [keys, values, q].map((one) => ({ shape: one.shape, dtype: "f32" as const }));
    throw new ShapeError(
      "placeHeads",
      "caches must be [B, S, G, D], heads [B, T, H or G, D], angles [B T, R]",
      [
        shape,
        q.shape,
        k.shape,
        angles.shape,
      ],
    );
  },
  pullbacks: [null],
  kernel: (
    { inputs: [{ shape: [batch, capacity, kvHeads, dim] }, , { shape: [, time, heads] }, , , angles] },
  ) => ({
    kernel: placeHeadsKernel({ batch, time, capacity, heads, kvHeads, dim, rotaryDim: angles.shape[1] }),
    reads: [2, 3, 4, 5, 6],
    writes: [0, 1, 2],
  }),
};

/** What {@link placeHeads} computes. */
export interface PlacedHeads {
  /** Rotated queries, f32 [B, T, H, D]. */
  readonly q: Tensor;
  /** All keys, f32 [B, S, G, D]. */
  readonly k: Tensor;
  /** All values, f32 [B, S, G, D]. */
  readonly v: Tensor;
}

/**
 * Rotates queries and keys of new tokens, and writes keys and values into leaves, in place, in one launch.
 *
 * @param caches The leaves of keys and values, f32 [B, S, G, D]
 * @param options Heads of the new tokens, f32 [B, T, H or G, D]; `angles`: f32 [B T, R], cosines and then sines; `at`: i32 [B], the
 * place of the first token of each sequence
 * @returns Queries, and all keys and values
 * @throws {ShapeError} When the shapes do not fit
 */
export function placeHeads(
  caches: { readonly keys: Tensor; readonly values: Tensor },
  { q, k, v, angles, at }: PlacedHeads & { readonly angles: Tensor; readonly at: Tensor },
): PlacedHeads {
  const placed = apply(placeHeadsOp, [caches.keys, caches.values, q, k, v, angles, at], null);
  return { k: placed, v: pick(placed, 1), q: pick(placed, 2) };
}
