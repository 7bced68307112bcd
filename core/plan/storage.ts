/**
 * How tensors lie in buffers.
 *
 * @module
 */

import { elementBytes, sizeOf, type Spec, type StorageType, type StoredSpec } from "../spec.ts";

/** Bytes of a buffer that holds a tensor, rounded up to groups of four elements, which kernels load at once. */
export function bytesOf(
  { shape, dtype = "f32" }: { readonly shape: readonly number[]; readonly dtype?: StorageType },
): number {
  const rounded = dtype === "int8" || dtype === "nf4" ? shape : [Math.ceil(sizeOf(shape) / 4) * 4];
  return Math.max(16, elementBytes({ shape: rounded, dtype }));
}

/** The spec of a tensor as a kernel sees it: `half` tells that the plan stores it as f16. */
export function storedSpec({ shape, dtype }: Spec, half: boolean): StoredSpec {
  return { shape, dtype: half ? "f16" : dtype === "f16" ? "half" : dtype };
}
