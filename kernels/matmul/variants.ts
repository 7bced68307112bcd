/**
 * The candidates to cut up a product, and which to try first.
 *
 * @module
 */

import { type MatmulTile, type MatmulVariant, partialSize, type ProductGroup } from "./types.ts";
import { MAX_GROUPS } from "../kernel.ts";
import { LANES } from "./direct.ts";
import { tileBytes } from "./load_tiles.ts";

/** Sizes of a product `[batch, m, k] x [batch, k, n]`. */
export interface ProductSizes {
  /** Products. */
  readonly batch: number;
  /** Rows. */
  readonly m: number;
  /** Columns. */
  readonly n: number;
  /** Length of the sums. */
  readonly k: number;
  /** Whether A is stored as [batch, k, m]; not when absent. */
  readonly transposeA?: boolean;
  /** How many such products there are, and whether they are summed; one when absent. */
  readonly group?: ProductGroup;
}

/** What the choice depends on besides sizes. */
export interface VariantOptions {
  /** The adapter is a CPU. */
  readonly software: boolean;
  /** Eight neighbouring threads can broadcast to each other. */
  readonly subgroups: boolean;
  /** Bytes of workgroup memory. */
  readonly workgroupBytes: number;
  /** Whether workgroups may not share sums; they may when absent. */
  readonly whole?: boolean;
}

/** A tile and how it fares on a GPU. */
interface RatedTile extends MatmulTile {
  /** FLOP/s of a processor that holds enough of them, as a share of the best tile's. */
  readonly rate: number;
  /** Tiles that a processor must hold for that. */
  readonly enough: number;
  /** Whether it is only for products whose A must be transposed on its candidate to workgroup memory. */
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

/** Blocks for CPUs that play a GPU, as `[tm, tn]`. */
export const MATMUL_BLOCKS: readonly (readonly [number, number])[] = [[24, 4], [16, 4], [8, 4], [24, 2]];

/** How many workgroups may share the sums of a tile. */
export const MATMUL_SPLITS: readonly number[] = [1, 2, 3, 4, 6, 8, 12, 16];

/** A large GPU: processors, FLOP/s of each, bytes a second in all, seconds between two launches. */
const LARGE = { processors: 132, flops: 0.36e12, bytes: 2.5e12, launch: 3e-6 };
/** The start and the end of a tile take as long as so much of k. */
const START = 32;
/** Rows or columns up to which long narrow tiles are worth a try, as in the products of LoRA. */
const SKINNY = 32;
/** Shorter sums are not shared. */
const LEAST_DEPTH = 64;
/** What should take longer than the best by this factor is not worth its compilation. */
const HOPELESS = 1.5;
/** Most bytes of parts of sums: every adapter binds as many. */
const PARTS = 2 ** 27;

/** A variant and how long it should take. */
interface Candidate {
  readonly variant: MatmulVariant;
  readonly seconds: number;
}

/** Blocks that are no larger than the product, each once; which is faster, no rule knows. */
function directCandidates({ m, n }: ProductSizes, { subgroups }: VariantOptions): Candidate[] {
  const candidates = MATMUL_BLOCKS.map(([tm, tn]): Candidate => {
    const block = { tm: Math.min(tm, m), tn: Math.min(tn, Math.ceil(n / LANES)) };
    return { variant: { kind: "direct", ...block, subgroups }, seconds: 0 };
  });
  return [...new Map(candidates.map((candidate) => [JSON.stringify(candidate), candidate])).values()];
}

/** Tiles that fit the product and the adapter, alone and shared, most promising first. */
function tiledCandidates(
  sizes: ProductSizes,
  { workgroupBytes, whole = false }: VariantOptions,
): Candidate[] {
  const { batch, m, n, k, transposeA = false } = sizes;
  const skinny = Math.min(m, n) <= SKINNY;
  const fits = (tile: RatedTile): boolean =>
    !(tile.deep && transposeA) && (skinny || tile.bm === tile.bn) && tileBytes(tile) <= workgroupBytes;
  // Of tiles of one size the first.
  const tiles = MATMUL_TILES.filter(fits).filter((tile, i, all) =>
    all.findIndex(({ bm, bn }) => bm === tile.bm && bn === tile.bn) === i
  );
  const splits = MATMUL_SPLITS.filter((split) =>
    split === 1 ||
    (!whole && k / split >= LEAST_DEPTH && 4 * split * partialSize(sizes) <= PARTS &&
      batch * split <= MAX_GROUPS)
  );
  const candidates = tiles.flatMap((tile) => {
    const { bm, bn, bk, tm, tn } = tile;
    return splits.map((split): Candidate => ({
      variant: { kind: "tiled", bm, bn, bk, tm, tn, split },
      seconds: predict(sizes, { tile, split }),
    }));
  });
  return candidates.toSorted((a, b) => a.seconds - b.seconds);
}

/** The one product that takes as much work as several. */
function combinedSizes({ group, ...sizes }: ProductSizes): ProductSizes {
  const { batch, k } = sizes;
  if (group === undefined) return sizes;
  return group.as === "summed" ? { ...sizes, k: k * group.count } : { ...sizes, batch: batch * group.count };
}

const candidatesOf = (sizes: ProductSizes, options: VariantOptions): Candidate[] =>
  options.software ? directCandidates(sizes, options) : tiledCandidates(combinedSizes(sizes), options);

/**
 * The candidates to compute a product that are worth measuring, most promising first.
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
 * A variant that suits a product, without measuring.
 *
 * @param sizes Sizes of the product
 * @param options What the adapter is
 * @returns The variant
 */
export function chooseMatmul(sizes: ProductSizes, options: VariantOptions): MatmulVariant {
  return candidatesOf(sizes, options)[0].variant;
}

/**
 * Whether something is one of the candidates to compute a product on an adapter, as a file may hold what another version or
 * another adapter chose.
 *
 * @param variant A variant, or anything else
 * @param product The product, and what the adapter is
 * @returns Whether it may be used
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

/** Seconds on a large GPU: a processor works through its share of the tiles, and the slowest one counts. */
function predict(
  sizes: ProductSizes,
  { tile, split }: { readonly tile: RatedTile; readonly split: number },
): number {
  const { batch, m, n, k } = sizes;
  const { bm, bn, bk, rate, enough } = tile;
  const tiles = batch * Math.ceil(m / bm) * Math.ceil(n / bn) * split;
  const each = Math.ceil(tiles / LARGE.processors);
  const depth = Math.ceil(k / split / bk) * bk + START;
  const product = each * depth * 2 * bm * bn / (LARGE.flops * rate * Math.min(1, (each + 0.2) / enough));
  const join = split === 1 ? 0 : LARGE.launch + 4 * partialSize(sizes) * (split + 1) / LARGE.bytes;
  return product + join;
}
