/**
 * Where the patches of an image stand, when images have other sizes than that of the configuration, or padding.
 *
 * Source: Dehghani et al., "Patch n' Pack", arXiv 2307.06304, section 2.2 (fractional positions); rounding is that of
 * `transformers`.
 *
 * Axes: B images, P and Q rows and columns of patches, N = P Q patches.
 *
 * @module
 */

import { add, cast, multiply, subtract } from "../ops/arithmetic.ts";
import { embedding } from "../ops/embedding.ts";
import { integers } from "../ops/integers.ts";
import { reshape, slice } from "../ops/movement.ts";
import { sum } from "../ops/broadcast.ts";
import { max } from "../ops/reduce.ts";
import { tensor } from "../sources.ts";
import type { Tensor } from "../tensor.ts";

/** Added to the score of a patch of padding: no other score counts beside it, and all alike where nothing but padding is. */
const UNSEEN = -1e30;

/** Rows and columns. */
export type Grid = readonly [rows: number, columns: number];

/**
 * The row of the table of positions that each patch of an image reads. `transformers` finds it by comparing fractions in f32,
 * whose rounding gives some patches the row of a neighbour.
 *
 * @param grid Patches of the image
 * @param side Patches on a side of the square image that the table is for
 * @returns i32, one for each patch, row by row
 */
export function gridPlaces([rows, columns]: Grid, side: number): Int32Array<ArrayBuffer> {
  const down = buckets(rows, side), across = buckets(columns, side);
  return Int32Array.from(
    { length: rows * columns },
    (_, i) => down[Math.floor(i / columns)] * side + across[i % columns],
  );
}

/** The place on a side of the table that each of some patches in a line has. */
function buckets(count: number, side: number): number[] {
  const step = Math.fround(1 / count), border = 1 / side;
  const borders = Array.from(
    { length: Math.ceil((1 - border) / border) },
    (_, b) => Math.fround(border + b * border),
  );
  return Array.from({ length: count }, (_, i) => {
    const place = Math.min(Math.fround(i * step), Math.fround(1 - 1e-6));
    return borders.filter((b) => b <= place).length;
  });
}

/** What a mask says of the patches of images. */
export interface MaskedPatches {
  /** The row of the table of positions that each patch reads, i32 [B, N]; 0 for padding. */
  readonly places: Tensor;
  /** Added to the scores of attention, f32 [B, 1, 1, N]. */
  readonly bias: Tensor;
}

/**
 * Finds the places of patches in images with padding below and to the right. A patch is padding when all of its pixels are.
 *
 * @param mask i32 [B, height, width]: 1 for a pixel, 0 for padding
 * @param options Patches of an image, their size in pixels, and patches on a side of the square image that the table is for
 * @returns Places and bias
 */
export function maskedPatches(
  mask: Tensor,
  { grid: [rows, columns], patchSize: [high, wide], side }: {
    readonly grid: Grid;
    readonly patchSize: readonly [height: number, width: number];
    readonly side: number;
  },
): MaskedPatches {
  const [batch] = mask.shape;
  const whole = slice(cast(mask), { starts: [0, 0, 0], sizes: [batch, rows * high, columns * wide] });
  const seen = max(max(reshape(whole, [batch, rows, high, columns, wide]), 4), 2); // [B, P, Q]
  const line = (sizes: Grid, along: number): Tensor =>
    // patches of the first column, or of the first row: [B]
    sum(reshape(slice(seen, { starts: [0, 0, 0], sizes: [batch, ...sizes] }), [batch, along]), 1);
  const down = lookUp(line([rows, 1], rows), rows, side),
    across = lookUp(line([1, columns], columns), columns, side);
  const places = add(multiply(reshape(down, [batch, rows, 1]), side), reshape(across, [batch, 1, columns]));
  return {
    places: integers(reshape(multiply(places, seen), [batch, rows * columns])),
    bias: reshape(multiply(subtract(1, seen), UNSEEN), [batch, 1, 1, rows * columns]),
  };
}

/** Places along one side of images with some patches in it: f32 [B] to [B, P]. */
function lookUp(count: Tensor, most: number, side: number): Tensor {
  const rows = Array.from({ length: most + 1 }, (_, n) => {
    const found = buckets(n, side);
    return Array.from({ length: most }, (_, i) => found[i] ?? 0);
  });
  return embedding(tensor(rows.flat(), [most + 1, most]), integers(count));
}
