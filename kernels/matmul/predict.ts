/**
 * A cost model of products that are computed in tiles, on a large GPU.
 *
 * @module
 */

import { MAX_GROUPS } from "../kernel.ts";
import { type Matmul, type MatmulVariant, partialSize } from "./types.ts";

/** A product `[batch, m, k] x [batch, k, n]`: its sizes, and what else of it decides. Operands are not transposed when absent. */
export type ProductSizes =
  & Pick<Matmul, "batch" | "m" | "n" | "k">
  & Partial<Omit<Matmul, "variant" | "epilogue">>;

/** A variant and its predicted time. */
export interface Predicted {
  /** How the product is computed. */
  readonly variant: MatmulVariant;
  /** Seconds that it takes. */
  readonly seconds: number;
}

/** The speed of a tile on a GPU. */
export interface Rating {
  /** FLOP/s of a processor that holds enough tiles, relative to the best tile without matrix units. */
  readonly rate: number;
  /** Tiles that a processor must hold to reach that rate. */
  readonly enough: number;
  /** The start and the end of a tile cost as much as this many steps along k; 32 when absent. */
  readonly start?: number;
}

/** The GPU of the cost model: processors, FLOP/s of each, bytes per second in all, seconds between two launches. */
export const LARGE = { processors: 132, flops: 0.36e12, bytes: 2.5e12, launch: 3e-6 } as const;

/** How many workgroups can share the sums of a tile. */
export const MATMUL_SPLITS: readonly number[] = [1, 2, 3, 4, 6, 8, 12, 16];
/** Shortest sum of one workgroup of a split-K product. */
const LEAST_DEPTH = 64;
/** Most bytes of partial sums: every adapter can bind that many. */
const PARTS = 2 ** 27;

/**
 * Into how many parts the sums of a product can be split.
 *
 * @param sizes The product
 * @param options Whether sums stay whole
 * @returns Numbers of parts; 1 is the first
 */
export function splitsOf(
  sizes: ProductSizes,
  { whole = false }: { readonly whole?: boolean },
): readonly number[] {
  const { batch, k } = sizes;
  return MATMUL_SPLITS.filter((split) =>
    split === 1 ||
    (!whole && k / split >= LEAST_DEPTH && 4 * split * partialSize(sizes) <= PARTS &&
      batch * split <= MAX_GROUPS)
  );
}

/**
 * Predicts seconds on a large GPU: every processor works through its share of the tiles, and the slowest one counts.
 *
 * @param sizes The product
 * @param options The tile, and into how many parts its sums are split
 * @returns Seconds
 */
export function predict(
  sizes: ProductSizes,
  { tile, split }: {
    readonly tile: Rating & { readonly bm: number; readonly bn: number; readonly bk: number };
    readonly split: number;
  },
): number {
  const { batch, m, n, k } = sizes;
  const { bm, bn, bk, rate, enough, start = 32 } = tile;
  const tiles = batch * Math.ceil(m / bm) * Math.ceil(n / bn) * split;
  const each = Math.ceil(tiles / LARGE.processors);
  const depth = Math.ceil(k / split / bk) * bk + start;
  const product = each * depth * 2 * bm * bn / (LARGE.flops * rate * Math.min(1, (each + 0.2) / enough));
  const join = split === 1 ? 0 : LARGE.launch + 4 * partialSize(sizes) * (split + 1) / LARGE.bytes;
  return product + join;
}
