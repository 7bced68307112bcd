/**
 * The variants that suit a product, and a cost model that ranks them.
 *
 * @module
 */

import { MAX_GROUPS } from "../kernel.ts";
import type { MatrixUnit } from "../matrix_unit.ts";
import { LANES } from "./direct.ts";
import { tileBytes } from "./load_tiles.ts";
import type { MatrixProducts } from "./matrix_products.ts";
import { isNarrow } from "./narrow.ts";
import { LARGE, predict, type Predicted, type ProductSizes, type Rating, splitsOf } from "./predict.ts";
import { isKept } from "./rows.ts";
import type { MatmulTile, MatmulVariant } from "./types.ts";

/** What the choice depends on besides sizes. */
export interface VariantOptions {
  /** Whether the adapter is a software rasteriser. */
  readonly software: boolean;
  /** Whether eight neighbouring threads can broadcast to each other. */
  readonly subgroups: boolean;
  /** Bytes of workgroup memory. */
  readonly workgroupBytes: number;
  /** Threads of every subgroup; 0, as when absent, where they are not known. */
  readonly subgroupSize?: number;
  /** Matrix units: those of f16 operands and f32 sums compute products with an operand that is stored as f16. */
  readonly matrices?: readonly MatrixUnit[];
  /** What computes products on them; when absent, threads do. */
  readonly units?: MatrixProducts;
  /** Whether split-K variants are excluded; they are candidates when absent. */
  readonly whole?: boolean;
}

/** A tile and its speed on a GPU. */
interface RatedTile extends MatmulTile, Rating {
  /** Whether it suits only products whose A is transposed while it is loaded. */
  readonly deep?: boolean;
}

/** Tiles for GPUs; measured on an H100, where the first two do 45 of the 50 TFLOP/s of cuBLAS. */
export const MATMUL_TILES: readonly RatedTile[] = [
  { bm: 128, bn: 128, bk: 32, tm: 8, tn: 8, rate: 1, enough: 1, deep: true },
  { bm: 128, bn: 128, bk: 16, tm: 8, tn: 8, rate: 1, enough: 1 },
  { bm: 64, bn: 64, bk: 16, tm: 8, tn: 8, rate: 0.93, enough: 4 },
  { bm: 128, bn: 16, bk: 16, tm: 8, tn: 4, rate: 0.5, enough: 4 },
  { bm: 16, bn: 128, bk: 16, tm: 4, tn: 8, rate: 0.5, enough: 4 },
];

/** Blocks for software adapters, as `[tm, tn]`. */
export const MATMUL_BLOCKS: readonly (readonly [number, number])[] = [[24, 4], [16, 4], [8, 4], [24, 2]];

/** Narrow tiles are candidates up to this many rows or columns, as in the products of LoRA. */
const SKINNY = 32;
/** Candidates predicted to be slower than the best by this factor are not worth compiling. */
const HOPELESS = 1.5;

/** Blocks no larger than the product, without repeats. There is no cost model for them. */
function directCandidates({ m, n }: ProductSizes, { subgroups }: VariantOptions): Predicted[] {
  const candidates = MATMUL_BLOCKS.map(([tm, tn]): Predicted => {
    const block = { tm: Math.min(tm, m), tn: Math.min(tn, Math.ceil(n / LANES)) };
    return { variant: { kind: "direct", ...block, subgroups }, seconds: 0 };
  });
  return [...new Map(candidates.map((candidate) => [JSON.stringify(candidate), candidate])).values()];
}

/** Tiles that fit the product and the adapter, with and without split-K. */
function tiledCandidates(
  sizes: ProductSizes,
  { workgroupBytes, whole }: VariantOptions,
): Predicted[] {
  const { m, n, transposeA = false } = sizes;
  const skinny = Math.min(m, n) <= SKINNY;
  const fits = (tile: RatedTile): boolean =>
    !(tile.deep && transposeA) && (skinny || tile.bm === tile.bn) && tileBytes(tile) <= workgroupBytes;
  // The first of tiles of one size.
  const tiles = MATMUL_TILES.filter(fits).filter((tile, i, all) =>
    all.findIndex(({ bm, bn }) => bm === tile.bm && bn === tile.bn) === i
  );
  return tiles.flatMap((tile) => {
    const { bm, bn, bk, tm, tn } = tile;
    return splitsOf(sizes, { whole }).map((split): Predicted => ({
      variant: { kind: "tiled", bm, bn, bk, tm, tn, split },
      seconds: predict(sizes, { tile, split }),
    }));
  });
}

/** The single product that takes as much work as a group. */
function combinedSizes({ group, ...sizes }: ProductSizes): ProductSizes {
  const { batch, k } = sizes;
  if (group === undefined) return sizes;
  return group.as === "summed" ? { ...sizes, k: k * group.count } : { ...sizes, batch: batch * group.count };
}

/** From so many weights on, their reading takes most of the time of a product of few rows. */
const MANY_WEIGHTS = 2 ** 14;
/** Most rows for which software adapters gain by reading each weight once. */
const FEW_ROWS = 2;
/** Threads that keep a large GPU busy with loads. */
const BUSY = LARGE.processors * 512;
/** How threads of a GPU share few rows, as `[across, along]`: where sums run along rows of B, and where they run across them. */
const SHARED_ALONG = [[4, 32], [8, 16], [2, 64]] as const,
  SHARED_ACROSS = [[32, 8], [16, 16], [32, 4]] as const;

/** Rows of B for the lanes of a CPU: many, as lanes load A first, but enough workgroups for its cores. */
const ROWS = [64, 32, 16] as const, CORES = 16;

/** Ways to compute a product of few rows, the most promising first; none for other products. */
function narrowVariants(sizes: ProductSizes, options: VariantOptions): MatmulVariant[] {
  const fits = ({ across, along, each, subgroups }: NarrowVariant): boolean =>
    subgroups || 4 * sizes.m * across * along * each <= options.workgroupBytes;
  const narrow = allNarrow(sizes, options).filter(fits);
  if (!options.software || !options.subgroups || !sizes.transposeB || !isKept(sizes)) return narrow;
  const rows = ROWS.find((rows) => sizes.n >= CORES * rows) ?? ROWS[ROWS.length - 1];
  return narrow.map(() => ({ kind: "rows", rows }));
}

type NarrowVariant = Extract<MatmulVariant, { kind: "narrow" }>;

function allNarrow(
  sizes: ProductSizes,
  { software, subgroups }: VariantOptions,
): NarrowVariant[] {
  const { m, n, k, transposeB = false } = sizes;
  if (!isNarrow(sizes) || n * k < MANY_WEIGHTS) return [];
  const variant = ([across, along]: readonly [number, number], each: number): NarrowVariant => ({
    kind: "narrow",
    across,
    along,
    each,
    subgroups: software && subgroups,
  });
  if (software) {
    if (m > (transposeB ? FEW_ROWS : 1)) return [];
    return [transposeB ? variant([1, LANES], 4) : variant([4, 2], 4)];
  }
  if (!transposeB) return SHARED_ACROSS.map((shared) => variant(shared, 4));
  const enough = n * SHARED_ALONG[0][1] / BUSY, first = enough >= 4 ? 4 : enough >= 2 ? 2 : 1;
  return [first, ...[1, 2, 4].filter((other) => other !== first)].flatMap((each) =>
    SHARED_ALONG.slice(0, each === 1 ? 3 : 1).map((shared) => variant(shared, each))
  );
}

/** Stacks of more products than a grid has along z are direct on any device: that kernel folds its grid. */
function candidatesOf(sizes: ProductSizes, options: VariantOptions): Predicted[] {
  const alike = combinedSizes(sizes), matrices = options.units?.variants(sizes, { ...options, alike }) ?? [];
  const others = options.software || sizes.batch > MAX_GROUPS
    ? [...matrices, ...directCandidates(sizes, options)]
    : [...matrices, ...tiledCandidates(alike, options)].sort((a, b) => a.seconds - b.seconds);
  // No model tells which is faster: they are measured beside the others.
  const narrow = narrowVariants(sizes, options).map((variant) => ({ variant, seconds: others[0].seconds }));
  return [...narrow, ...others];
}

/**
 * The variants of a product that are worth measuring, the fastest predicted first.
 *
 * @param sizes Sizes of the product
 * @param options What the adapter is
 * @returns At least one variant
 */
export function matmulVariants(sizes: ProductSizes, options: VariantOptions): MatmulVariant[] {
  const candidates = candidatesOf(sizes, options);
  return candidates.filter(({ seconds }) => seconds <= HOPELESS * candidates[0].seconds).map(({ variant }) =>
    variant
  );
}

/**
 * Chooses a variant for a product without measuring.
 *
 * @param sizes Sizes of the product
 * @param options What the adapter is
 * @returns The variant
 */
export function chooseMatmul(sizes: ProductSizes, options: VariantOptions): MatmulVariant {
  return candidatesOf(sizes, options)[0].variant;
}

/**
 * Whether a value is a variant for a product on an adapter: a cache file may hold the choice of another version or adapter.
 *
 * @param variant A variant, or anything else
 * @param product The product, and what the adapter is
 * @returns True when it can be used
 */
export function isVariant(
  variant: unknown,
  { sizes, options }: { readonly sizes: ProductSizes; readonly options: VariantOptions },
): variant is MatmulVariant {
  if (typeof variant !== "object" || variant === null) return false;
  const seen = variant as { readonly [name: string]: unknown };
  return candidatesOf(sizes, options).some(({ variant: known }) =>
    Object.entries(known).every(([name, value]) => seen[name] === value)
  );
}
