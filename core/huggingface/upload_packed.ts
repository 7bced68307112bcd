/**
 * Uploads values that the device stores in fewer bytes.
 *
 * @module
 */

import { isBlocked } from "../../kernels/blocks.ts";
import { toBlocks } from "../data/blocks.ts";
import type { Gpu } from "../runtime/device.ts";
import type { DType } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { uploadLeaf } from "../train/state/upload.ts";
import type { Path } from "../tree.ts";

/**
 * Uploads values of a weight that never changes.
 *
 * @param gpu The device
 * @param values f32, row-major
 * @param options `path`: its name; `shape`; `dtype`: how it is stored
 * @returns The weight
 * @throws {DataError} When a magnitude is too large for the type
 */
export function uploadPacked(
  gpu: Gpu,
  values: Float32Array<ArrayBuffer>,
  { path, shape, dtype, constant }: {
    readonly path: Path;
    readonly shape: readonly number[];
    readonly dtype: DType;
    readonly constant?: boolean;
  },
): Tensor {
  const data = isBlocked(dtype)
    ? toBlocks(values, { stored: dtype, width: shape.at(-1) ?? 1, name: path })
    : values;
  return uploadLeaf(gpu, { path, value: { shape, dtype, data }, step: 0, constant });
}
