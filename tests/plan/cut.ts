/**
 * Products cut up in one way, whichever it is that a GPU was measured to do.
 *
 * @module
 */

import type { Gpu } from "../../core/runtime/device.ts";
import type { Target } from "../../core/kernel_call.ts";
import type { MatmulVariant } from "../../kernels/matmul/types.ts";

/** A target that cuts up every product in one way. */
export function cutBy(target: Target, variant: MatmulVariant): Target {
  return { ...target, variants: Object.assign(new Map(), { get: () => variant }) };
}

/** A device that does so in trainings as well, where it would measure. */
export function cutAll(gpu: Gpu, variant: MatmulVariant): Gpu {
  const tuning = { ...gpu.tuning, enabled: false, variants: new Map() };
  return { ...gpu, tuning, target: cutBy(gpu.target, variant) };
}

/** A tile whose kernel compiles in half the time of those that a GPU gets. */
export function tile(split: number): MatmulVariant {
  return { kind: "tiled", bm: 32, bn: 32, bk: 16, tm: 4, tn: 4, split };
}
