/**
 * Matrix products from one description: layouts, tiles, epilogue.
 *
 * @module
 */

import type { Expression } from "./expression.ts";
import type { Kernel } from "./kernel.ts";
import { direct, LANES } from "./matmul_direct.ts";
import { tiled } from "./matmul_tiled.ts";

/**
 * How a product is cut up.
 *
 * - `direct`: eight lanes compute `tm x 8 tn` elements straight from storage; with `subgroups` each lane loads another
 *   element of A and broadcasts it. Best where lanes are those of a CPU's vector registers.
 * - `tiled`: a workgroup computes `bm x bn` from tiles of depth `bk` in workgroup memory, `tm x tn` a thread.
 */
export type MatmulVariant =
  | { readonly kind: "direct"; readonly tm: number; readonly tn: number; readonly subgroups: boolean }
  | {
    readonly kind: "tiled";
    readonly bm: number;
    readonly bn: number;
    readonly bk: number;
    readonly tm: number;
    readonly tn: number;
    /** Workgroups that share the sums of a tile; their partial products are added by another kernel. 1 when absent. */
    readonly split?: number;
  };

/** What is done to each element before it is stored. */
export interface Epilogue {
  /** Over `[batch * m, n]`; its `given` step named `acc` is the product. */
  readonly expression: Expression;
  /** Step numbers to store, one array each. */
  readonly outputs: readonly number[];
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
  /** How it is cut up. */
  readonly variant: MatmulVariant;
  /** What is done before storing; the product is stored as it is when absent. */
  readonly epilogue?: Epilogue;
}

/**
 * The kernel of a product. Bindings: A, B, inputs of the epilogue, outputs.
 *
 * @param product Sizes, layouts and variant; sizes of any kind, as long as the grid fits
 * @returns The kernel
 */
export function matmul(product: Matmul): Kernel {
  return product.variant.kind === "direct"
    ? direct(product, product.variant)
    : tiled(product, product.variant);
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

/**
 * A variant that suits a product, without measuring.
 *
 * @param product Its sizes
 * @param options `software`: the adapter is a CPU; `subgroups`: it can broadcast among eight lanes
 * @returns The variant
 */
export function chooseMatmul(
  { batch, m, n, k }: { readonly batch: number; readonly m: number; readonly n: number; readonly k: number },
  options: { readonly software: boolean; readonly subgroups: boolean },
): MatmulVariant {
  if (options.software) {
    return {
      kind: "direct",
      tm: Math.min(24, m),
      tn: Math.min(4, Math.ceil(n / LANES)),
      subgroups: options.subgroups,
    };
  }
  // Enough workgroups to fill the processors of a large GPU: of small products several share the sums of a tile.
  const tiles = batch * Math.ceil(m / 64) * Math.ceil(n / 64);
  const split = clamp(2 ** Math.floor(Math.log2(Math.min(1024 / tiles, k / 128)) + 0.3), 1, 16);
  return tiles * split >= 256
    ? { kind: "tiled", bm: 64, bn: 64, bk: 16, tm: 8, tn: 8, split }
    : { kind: "tiled", bm: 64, bn: 64, bk: 32, tm: 8, tn: 4, split };
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most);
}
