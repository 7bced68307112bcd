/**
 * What a matrix product is: sizes, layouts, the variant that computes it, and the epilogue.
 *
 * @module
 */

import type { Expression } from "../expression.ts";
import type { Stored } from "../packed.ts";

/**
 * How a product is cut up.
 *
 * - `direct`: eight lanes compute `tm x 8 tn` elements straight from storage; with `subgroups` each lane loads another
 *   element of A and broadcasts it. Best where lanes are those of a CPU's vector registers.
 * - `tiled`: a workgroup computes `bm x bn` from tiles of depth `bk` in workgroup memory, `tm x tn` a thread.
 */
export type MatmulVariant =
  | { readonly kind: "direct"; readonly tm: number; readonly tn: number; readonly subgroups: boolean }
  | (MatmulTile & {
    readonly kind: "tiled";
    /** Workgroups that share the sums of a tile; their parts are added by {@link reduceSplits}. */
    readonly split: number;
  });

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

/** What is done to each element before it is stored. */
export interface Epilogue {
  /** Over `[batch * m, n]`; its `given` step named `acc` is the product. */
  readonly expression: Expression;
  /** Step numbers to store, one array each. */
  readonly outputs: readonly number[];
  /** `overwrites[i]` is the input whose buffer output `i` reuses, element by element; null for a buffer of its own. */
  readonly overwrites?: readonly (number | null)[];
  /** Whether each output is stored as f16; all are f32 when absent. */
  readonly half?: readonly boolean[];
  /** Whether products of zero leave all that is overwritten as it is, so that nothing need be stored. */
  readonly additive?: boolean;
}

/** Products of the same sizes and layout, in one launch. */
export interface ProductGroup {
  /** How many, more than one. */
  readonly count: number;
  /** `apart` for as many results, with no epilogue but one that stores all as f16; `summed` for one, their sum. */
  readonly as: "separate" | "summed";
  /** The operand that all have in common, bound once. */
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
  /** Elements from a stored row of A to the next, where rows end in zeros that take no part. */
  readonly strideA?: number;
  /** Columns that B has, where it has fewer than the product: what the others become is a finite number. */
  readonly columnsB?: number;
  /** How A is stored; `f32` when absent. Sums are of f32 either way, of the same bits. */
  readonly storedA?: Stored;
  /** How B is stored, likewise. */
  readonly storedB?: Stored;
  /**
   * Where a number u32 [1], bound behind A and B, ends the product early: rows of A at or beyond it are zeros (`m`), or
   * summands at or beyond it are (`k`). What they would add to is not computed; the results are the same.
   */
  readonly limit?: "m" | "k";
  /** How many such products there are, of `batch` 1 and without a limit; {@link canGroup} tells which may; one when absent. */
  readonly group?: ProductGroup;
  /** How it is cut up. */
  readonly variant: MatmulVariant;
  /** What is done before storing; the product is stored as it is when absent. */
  readonly epilogue?: Epilogue;
}

/**
 * Names a product by sizes and layout: "1024x768x2048 NT", "512x768x50257 NN 50264" where rows of A are that long,
 * "1024x768x2048 NT bf16" where B is stored so, "1024x768x2048 NT f16 f32" where A is not f32, "3 apart 1024x768x768 NT" for several in one launch.
 *
 * @param product The product
 * @returns The name
 */
export function productKey(
  product: Omit<Matmul, "variant">,
): string {
  const { batch, m, n, k, transposeA, transposeB, strideA, group } = product;
  const { storedA = "f32", storedB = "f32" } = product;
  const both = storedA === "f32" ? storedB === "f32" ? "" : ` ${storedB}` : ` ${storedA} ${storedB}`;
  const layout = `${transposeA ? "T" : "N"}${transposeB ? "T" : "N"}${
    strideA === undefined ? "" : ` ${strideA}`
  }${both}`;
  const count = group === undefined ? batch === 1 ? "" : `${batch}x` : `${group.count} ${group.as} `;
  return `${count}${m}x${n}x${k} ${layout}`;
}

/**
 * Elements of one partial product, padded so that the next one is aligned.
 *
 * @param product Its sizes
 * @returns Elements
 */
export function partialSize(
  { batch, m, n }: { readonly batch: number; readonly m: number; readonly n: number },
): number {
  return Math.ceil(batch * m * n / 4) * 4;
}
