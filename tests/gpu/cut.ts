/**
 * Products cut up in one way, whichever it is that a GPU was measured to do.
 *
 * @module
 */

import type { Target } from "../../core/tensor.ts";
import type { MatmulVariant } from "../../kernels/matmul.ts";
import { MATMUL_TILES } from "../../kernels/matmul_variants.ts";

/** A target that cuts up every product in one way. */
export function cutBy(target: Target, variant: MatmulVariant): Target {
  return { ...target, variants: Object.assign(new Map(), { get: () => variant }) };
}

/** Every tile of a GPU, with sums shared by so many workgroups. */
export function tiles(split: number): (MatmulVariant & { readonly kind: "tiled" })[] {
  return MATMUL_TILES.map(({ bm, bn, bk, tm, tn }) => ({ kind: "tiled", bm, bn, bk, tm, tn, split }));
}

/** The tile of 64 by 64. */
export function tile(split: number): MatmulVariant {
  return tiles(split).find(({ bm, bn }) => bm === 64 && bn === 64)!;
}
