/**
 * What a matrix product is: sizes, layouts, the variant that computes it, and the epilogue.
 *
 * @module
 */

import type { Expression } from "../expression.ts";
import type { MatrixDialect } from "../matrix_unit.ts";
import type { Stored } from "../packed.ts";

/**
 * Which kernel computes a product, and how it is tiled.
 *
 * - `direct`: eight lanes compute `tm x 8 tn` elements straight from storage; with `subgroups` each lane loads another
 *   element of A and broadcasts it. Best when lanes are those of a CPU's vector registers.
 * - `narrow`: for few rows; in a workgroup `along` threads share the sums of `each` columns, `across` times side by side.
 * - `rows`: for few rows on a CPU, where sums run along rows of B; eight lanes keep A, and go through `rows` of them.
 * - `tiled`: a workgroup computes `bm x bn` from tiles of depth `bk` in workgroup memory, `tm x tn` a thread.
 * - `matrix`: the same on matrix units of f16 operands and f32 sums, `wm x wn` a subgroup.
 */
export type MatmulVariant =
  | { readonly kind: "direct"; readonly tm: number; readonly tn: number; readonly subgroups: boolean }
  | {
    readonly kind: "narrow";
    readonly across: number;
    readonly along: number;
    /** Columns of a thread. */
    readonly each: number;
    readonly subgroups: boolean;
  }
  | { readonly kind: "rows"; readonly rows: number }
  | (MatmulTile & {
    readonly kind: "tiled";
    /** Workgroups that share the sums of a tile (split-K); `reduceSplits` adds their partial sums. */
    readonly split: number;
  })
  | (MatrixTile & { readonly kind: "matrix"; readonly split: number });

/** A tile of the product: `bm x bn`, in steps of `bk`, `tm x tn` a thread. */
export interface MatmulTile {
  /** Rows, a multiple of `tm`. */
  readonly bm: number;
  /** Columns, a multiple of `tn`. */
  readonly bn: number;
  /** Depth, a multiple of 4. */
  readonly bk: number;
  /** Rows of a thread, a multiple of 4. */
  readonly tm: number;
  /** Columns of a thread, a multiple of 4. */
  readonly tn: number;
}

/** A tile of the product on matrix units: `bm x bn`, in steps of `bk`, `wm x wn` a subgroup. */
export interface MatrixTile {
  /** Rows, a multiple of `wm`. */
  readonly bm: number;
  /** Columns, a multiple of `wn`. */
  readonly bn: number;
  /** Depth, a multiple of `uk`. */
  readonly bk: number;
  /** Rows of a subgroup, a multiple of `um`, and of `wn` or a part of it. */
  readonly wm: number;
  /** Columns of a subgroup, a multiple of `un`. */
  readonly wn: number;
  /** Tiles that are on their way into registers while one in workgroup memory is multiplied. */
  readonly ahead: 1 | 2;
  /** Rows of the matrix unit: `um x uk` times `uk x un`, all multiples of 8. */
  readonly um: number;
  /** Its columns. */
  readonly un: number;
  /** Its depth. */
  readonly uk: number;
  /** Threads of a subgroup. */
  readonly lanes: number;
  /** The dialect of its kernel; that of Tint when absent. */
  readonly dialect?: MatrixDialect;
}

/** What happens to each element before it is stored. */
export interface Epilogue {
  /** Its iteration space is `[batch * m, n]`; its `given` step named `acc` is the product. */
  readonly expression: Expression;
  /** Step numbers to store, one array each. */
  readonly outputs: readonly number[];
  /** `overwrites[i]`: the input whose buffer output `i` overwrites in place; null for a buffer of its own. */
  readonly overwrites?: readonly (number | null)[];
  /** Whether each output is stored as f16; all are f32 when absent. */
  readonly half?: readonly boolean[];
  /** Whether a product of zero leaves the overwritten buffers unchanged, so that nothing need be stored. */
  readonly additive?: boolean;
}

/** Products of equal sizes and layouts, computed in one launch. */
export interface ProductGroup {
  /** How many; more than one. */
  readonly count: number;
  /** `separate` for one result each, without an epilogue other than storing as f16; `summed` for one result, their sum. */
  readonly as: "separate" | "summed";
  /** The operand that all products share, bound once. */
  readonly shared?: "a" | "b";
}

/** A product `[batch, m, k] x [batch, k, n]`. */
export interface Matmul {
  /** Products, one after the other in memory. */
  readonly batch: number;
  /** Rows of the product. */
  readonly m: number;
  /** Columns of the product. */
  readonly n: number;
  /** Length of the sums. */
  readonly k: number;
  /** A is stored as [batch, k, m]. */
  readonly transposeA: boolean;
  /** B is stored as [batch, n, k]. */
  readonly transposeB: boolean;
  /** Elements from one stored row of A to the next, when rows end in padding. */
  readonly strideA?: number;
  /** Columns of B, when it has fewer than the product: the other columns of the result hold some finite number. */
  readonly columnsB?: number;
  /** How A is stored; `f32` when absent. Sums are f32 either way. */
  readonly storedA?: Stored;
  /** How B is stored; `f32` when absent. */
  readonly storedB?: Stored;
  /** Whether A, where it is f32, may hold numbers beyond the range of f16, to which matrix units need it rounded. */
  readonly largeA?: boolean;
  /** The same of B. */
  readonly largeB?: boolean;
  /**
   * Whether matrix units multiply each number as a pair of f16, which nearly keeps the accuracy of f32 (see `pairs.ts`). The
   * kernel binds the largest magnitudes of A and of B after the limit (see `magnitudes.ts`); for a single product.
   */
  readonly paired?: boolean;
  /**
   * When a u32 [1], bound after A and B, ends the product early: rows of A at or past it are zeros (`m`), or summands at
   * or past it are (`k`). They are skipped; the results are the same.
   */
  readonly limit?: "m" | "k";
  /** A group of such products, each of `batch` 1 and without a limit (see `canGroup`); a single product when absent. */
  readonly group?: ProductGroup;
  /** Which kernel, and its tiles. */
  readonly variant: MatmulVariant;
  /** What happens before storing; the product is stored unchanged when absent. */
  readonly epilogue?: Epilogue;
}

/**
 * Names a product by sizes, layout and storage.
 *
 * - "1024x768x2048 NT": m, n, k, and which operands are transposed
 * - "512x768x50257 NN 50264": rows of A are 50264 elements apart
 * - "1024x768x2048 NT bf16": B is stored as bf16
 * - "1024x768x2048 NT f16 f32": A is stored as f16, B as f32
 * - "3 apart 1024x768x768 NT": a group of three separate products; checkpoints and caches of choices have this word
 * - "1024x768x2048 NT f32x3": numbers may be multiplied as pairs of f16
 *
 * @param product The product
 * @returns The name
 */
export function productKey(
  product: Omit<Matmul, "variant">,
): string {
  const { batch, m, n, k, transposeA, transposeB, strideA, group } = product;
  const { storedA = "f32", storedB = "f32", paired = false } = product;
  const both = storedA === "f32" ? storedB === "f32" ? "" : ` ${storedB}` : ` ${storedA} ${storedB}`;
  const layout = `${transposeA ? "T" : "N"}${transposeB ? "T" : "N"}${
    strideA === undefined ? "" : ` ${strideA}`
  }${both}`;
  const count = group === undefined
    ? batch === 1 ? "" : `${batch}x`
    : `${group.count} ${group.as === "separate" ? "apart" : "summed"} `;
  return `${count}${m}x${n}x${k} ${layout}${paired ? " f32x3" : ""}`;
}

/**
 * Workgroups that share the sums of a tile.
 *
 * @param variant How a product is computed
 * @returns 1 where one of them computes whole sums; else `reduceSplits` must follow
 */
export function splitOf(variant: MatmulVariant): number {
  return variant.kind === "tiled" || variant.kind === "matrix" ? variant.split : 1;
}

/**
 * Whether the kernel of a product multiplies pairs of f16, and so binds the largest magnitudes of its operands.
 *
 * @param product The product
 * @returns True when it does
 */
export function isPaired({ paired = false, variant }: Pick<Matmul, "paired" | "variant">): boolean {
  return paired && variant.kind === "matrix";
}

/**
 * Elements of one partial result of a split-K product, padded so that the next one is aligned.
 *
 * @param product Its sizes
 * @returns Elements
 */
export function partialSize(
  { batch, m, n }: { readonly batch: number; readonly m: number; readonly n: number },
): number {
  return Math.ceil(batch * m * n / 4) * 4;
}
