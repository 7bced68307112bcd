/**
 * The variants on matrix units that suit a product.
 *
 * @module
 */

import { isBlocked } from "../blocks.ts";
import { MAX_GROUPS } from "../kernel.ts";
import { type MatrixUnit, productUnit } from "../matrix_unit.ts";
import type { Stored } from "../packed.ts";
import { CHUNK } from "./chunks.ts";
import { panelBytes } from "./panels.ts";
import { predict, type Predicted, type ProductSizes, type Rating, splitsOf } from "./predict.ts";
import type { MatrixTile } from "./types.ts";

/** A tile on matrix units, and its speed on a GPU. */
interface RatedTile
  extends Pick<MatrixTile, "bm" | "bn" | "bk" | "wm" | "wn">, Partial<Pick<MatrixTile, "ahead">>, Rating {
  /** Its speed where A is transposed, as in gradients of weights: panels lie as rows do in memory. Only for those alone. */
  readonly transposed?: Rating;
  /** Whether it suits only products of few rows or columns. */
  readonly skinny?: boolean;
  /** Whether it suits only products that have a launch of their own: those that share one have as many threads. */
  readonly alone?: boolean;
}

/**
 * Tiles for GPUs, fitted to what an H200 does of thirty products of training: within 3 to 15 percent. 96 columns divide the
 * widths of small models more evenly among its 132 processors than 64 or 128 do. Two tiles ahead hide the latency of loads
 * where a thread has registers left, in products of few steps along k. Two stages in workgroup memory, a depth of 16 and tiles of
 * 256 are slower everywhere: workgroup memory limits how many workgroups a processor holds.
 */
export const MATRIX_TILES: readonly RatedTile[] = [
  { bm: 128, bn: 128, bk: 64, wm: 64, wn: 32, rate: 6, enough: 1, start: 256 },
  { bm: 128, bn: 128, bk: 64, wm: 64, wn: 32, ahead: 2, rate: 5.75, enough: 1, start: 128, alone: true },
  {
    ...{ bm: 128, bn: 128, bk: 32, wm: 64, wn: 64, rate: 5.9, enough: 1.5, start: 256 },
    transposed: { rate: 7.1, enough: 2, start: 16 },
  },
  { bm: 64, bn: 128, bk: 32, wm: 64, wn: 64, rate: 5.3, enough: 3, start: 192 },
  { bm: 128, bn: 64, bk: 32, wm: 64, wn: 64, rate: 5.2, enough: 3, start: 192 },
  { bm: 64, bn: 192, bk: 32, wm: 64, wn: 64, rate: 4.4, enough: 1.5, start: 16, alone: true },
  { bm: 64, bn: 64, bk: 64, wm: 32, wn: 32, rate: 4, enough: 1, start: 64 },
  { bm: 64, bn: 96, bk: 64, wm: 32, wn: 32, ahead: 2, rate: 4.1, enough: 1, start: 32, alone: true },
  { bm: 128, bn: 16, bk: 64, wm: 32, wn: 16, rate: 1.5, enough: 2, start: 64, skinny: true },
  { bm: 16, bn: 128, bk: 64, wm: 16, wn: 32, rate: 1.5, enough: 2, start: 64, skinny: true },
];

/**
 * Tiles for products of pairs, of which each number takes two f16 of workgroup memory. Fitted to what an H200 does of eight products:
 * within 3 to 13 percent. Others were faster nowhere.
 */
export const PAIR_TILES: readonly RatedTile[] = [
  { bm: 128, bn: 128, bk: 32, wm: 64, wn: 32, rate: 1.9, enough: 1, start: 16 },
  { bm: 64, bn: 64, bk: 32, wm: 32, wn: 32, rate: 1.45, enough: 1, start: 96 },
  { bm: 64, bn: 96, bk: 32, wm: 32, wn: 32, rate: 1.15, enough: 1, start: 16, alone: true },
];

/** Products of fewer operations share launches with others, and so do groups of such products. */
const ALONE = 1e9;
/** Skinny tiles are candidates up to this many rows or columns, as in the products of LoRA. */
const SKINNY = 32;
/** Most candidates of a tile, which differ in how its sums are split: others have their turn. */
const SPLITS = 5;
/** Threads that every adapter with subgroups can have in a workgroup. */
const THREADS = 256;
/** Elements are loaded one by one where rows do not begin at whole chunks. */
const UNALIGNED = 0.4;

/** For software adapters: few matrices, which compile quickly. */
function smallTile({ m, n, k }: MatrixUnit): RatedTile {
  return { bm: 2 * m, bn: 2 * n, bk: 2 * k, wm: m, wn: n, rate: 1, enough: 1 };
}

/** What decides about variants on matrix units. */
export interface MatrixOptions {
  /** Whether the adapter is a software rasteriser. */
  readonly software: boolean;
  /** Bytes of workgroup memory. */
  readonly workgroupBytes: number;
  /** Threads of every subgroup; 0, as when absent, where they are not known. */
  readonly subgroupSize?: number;
  /** The matrix units of the adapter. */
  readonly matrices?: readonly MatrixUnit[];
  /** Whether split-K variants are excluded. */
  readonly whole?: boolean;
  /** The single product that takes as much work. */
  readonly alike: ProductSizes;
}

/**
 * Lists the variants on matrix units. There are some where an operand is stored as f16, so that the plan is of that
 * precision: the other one is rounded as it would be if it were stored so. Other products stay exact: there are some only
 * where pairs of f16 are asked for.
 *
 * @param sizes The product
 * @param options The adapter
 * @returns Variants with their predicted times; none where the adapter has no unit of f16 operands and f32 sums
 */
export function matrixVariants(sizes: ProductSizes, options: MatrixOptions): Predicted[] {
  const { software, workgroupBytes, subgroupSize: lanes = 0, whole, alike } = options;
  const unit = productUnit(options);
  if (unit === undefined || sizes.batch > MAX_GROUPS || !isEligible(sizes)) return [];
  const large = 2 * sizes.batch * sizes.m * sizes.n * sizes.k >= ALONE;
  const skinny = Math.min(sizes.m, sizes.n) <= SKINNY, aligned = rowsOf(sizes).every(isAligned);
  const fits = (tile: RatedTile): boolean =>
    (skinny || tile.skinny !== true) && (large || tile.alone !== true) && isWhole(sizes, tile) &&
    tile.bm / tile.wm * (tile.bn / tile.wn) * lanes <= THREADS &&
    tile.wm % unit.m === 0 && tile.wn % unit.n === 0 && tile.bk % unit.k === 0;
  const tiles = sizes.paired === true ? PAIR_TILES : MATRIX_TILES;
  return (software ? [smallTile(unit)] : tiles).filter(fits).flatMap((rated) => {
    const { bm, bn, bk, wm, wn, ahead = 1, transposed } = rated;
    const speed = large && sizes.transposeA === true && transposed !== undefined ? transposed : rated;
    const { m: um, n: un, k: uk, dialect = "tint" } = unit;
    const tile: MatrixTile = { bm, bn, bk, wm, wn, ahead, um, un, uk, lanes, dialect };
    if (panelBytes(tile, sizes) > workgroupBytes) return [];
    const predicted = { ...rated, ...speed, rate: aligned ? speed.rate : speed.rate * UNALIGNED };
    const each = splitsOf(alike, { whole }).map((split): Predicted => ({
      variant: { kind: "matrix", ...tile, split },
      seconds: software ? 0 : predict(alike, { tile: predicted, split }),
    }));
    return each.sort((a, b) => a.seconds - b.seconds).slice(0, SPLITS);
  });
}

/** An operand as far as its loads go. */
interface Rows {
  readonly stored: Stored;
  /** Elements from one row to the next. */
  readonly stride: number;
}

function rowsOf(
  { m, n, k, transposeA, transposeB, strideA, columnsB = n, storedA = "f32", storedB = "f32" }: ProductSizes,
): readonly Rows[] {
  return [
    { stored: storedA, stride: strideA ?? (transposeA ? m : k) },
    { stored: storedB, stride: transposeB ? k : columnsB },
  ];
}

/** Rows of blocks are padded. */
function isAligned({ stored, stride }: Rows): boolean {
  return isBlocked(stored) || stride % CHUNK === 0;
}

/** Elements of two bytes that lie in words cannot be loaded one by one by the kernel of a group. */
function isEligible(sizes: ProductSizes): boolean {
  const rows = rowsOf(sizes);
  return (sizes.paired === true ? sizes.group === undefined : rows.some(({ stored }) => stored === "f16")) &&
    rows.every((side) => isAligned(side) || side.stored === "f16" || side.stored === "f32");
}

/** Tiles of a sum of products end where products do. */
function isWhole({ k, group }: ProductSizes, { bk }: RatedTile): boolean {
  return group?.as !== "summed" || k % bk === 0;
}
