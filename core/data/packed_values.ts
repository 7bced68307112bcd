/**
 * Values of tensors as the device stores them.
 *
 * @module
 */

import { isBlocked } from "../../kernels/blocks.ts";
import type { HostData } from "../sources.ts";
import type { DType, Spec } from "../spec.ts";
import { fromBlocks, toBlocks } from "./blocks.ts";
import { fromBf16, fromF16, toBf16, toF16 } from "./floats.ts";

/** What a buffer holds: values, or codes that stand for them. */
export type Codes = HostData | Uint16Array<ArrayBuffer>;

/**
 * Rounds values to what the device stores.
 *
 * @param values Values, or words of blocks, which stay as they are
 * @param options `dtype`: how they are stored; `width`: elements of a row; `name` of the tensor, for an error
 * @returns Values or codes
 * @throws {DataError} When a magnitude is too large for the type
 */
export function packValues(
  values: HostData,
  { dtype, width, name }: { readonly dtype: DType; readonly width: number; readonly name?: string },
): Codes {
  return values instanceof Float32Array && isBlocked(dtype)
    ? toBlocks(values, { stored: dtype, width, name })
    : packHalves(values, dtype);
}

/** Rounds values to bf16 or f16; all others stay as they are. */
export function packHalves(values: HostData, dtype: DType): Codes {
  if (!(values instanceof Float32Array)) return values;
  return dtype === "bf16" ? toBf16(values) : dtype === "f16" ? toF16(values) : values;
}

/** The values that bytes of the device stand for; f32 where they are stored in fewer bytes. */
export function unpackValues(bytes: ArrayBuffer, { shape, dtype }: Spec): HostData {
  switch (dtype) {
    case "f32":
      return new Float32Array(bytes);
    case "i32":
      return new Int32Array(bytes);
    case "u32":
      return new Uint32Array(bytes);
    case "bf16":
      return fromBf16(new Uint16Array(bytes));
    case "f16":
      return fromF16(new Uint16Array(bytes));
    default:
      return fromBlocks(new Uint32Array(bytes), { stored: dtype, width: shape.at(-1)! });
  }
}
