/**
 * Products cut up in one way, whichever it is that a GPU was measured to do.
 *
 * @module
 */

import type { Target } from "../../core/tensor.ts";
import type { MatmulVariant } from "../../kernels/matmul.ts";
import { tiles } from "../kernels/matmul_reference.ts";

/** A target that cuts up every product in one way. */
export function cutBy(target: Target, variant: MatmulVariant): Target {
  return { ...target, variants: Object.assign(new Map(), { get: () => variant }) };
}

/** The tile of 64 by 64. */
export function tile(split: number): MatmulVariant {
  return tiles(split).find(({ bm, bn }) => bm === 64 && bn === 64)!;
}
