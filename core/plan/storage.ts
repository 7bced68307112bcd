/**
 * How tensors lie in buffers.
 *
 * @module
 */

import { ELEMENT_BYTES, sizeOf, type Spec, type StorageType, type StoredSpec } from "../tensor.ts";

/** Bytes of a buffer that holds a tensor: whole groups of four elements, so that kernels may load them at once. */
export function bytesOf(
  { shape, dtype = "f32" }: { readonly shape: readonly number[]; readonly dtype?: StorageType },
): number {
  return Math.max(16, Math.ceil(sizeOf(shape) / 4) * 4 * ELEMENT_BYTES[dtype]);
}

/** What a kernel is told about a tensor that it reads or writes. */
export function storedSpec({ shape, dtype }: Spec, half: boolean): StoredSpec {
  return { shape, dtype: half ? "f16" : dtype };
}
