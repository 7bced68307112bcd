/**
 * Float32 as the types of GGUF files that are written.
 *
 * @module
 */

import { BLOCK, rowLayout } from "../../../kernels/blocks.ts";
import { toBlocks } from "../blocks.ts";
import { toBf16, toF16 } from "../floats.ts";
import { TENSOR_TYPES } from "./types.ts";

/** Types that are written. */
export type WrittenDType = "F32" | "F16" | "BF16" | "Q8_0";

/** Bytes of a block of Q8_0. */
const BYTES = TENSOR_TYPES.Q8_0.bytes;

/**
 * Stores values. Blocks of Q8_0 have the bits of ggml's reference: the largest magnitude of 32 becomes 127, halves are
 * rounded away from zero.
 *
 * Source: `quantize_row_q8_0_ref` of `ggml-quants.c`.
 *
 * @param values float32; for Q8_0 whole blocks of 32
 * @param dtype The type
 * @returns The bytes
 */
export function quantize(values: Float32Array, dtype: WrittenDType): Uint8Array {
  switch (dtype) {
    case "F32":
      return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    case "F16":
      return new Uint8Array(toF16(values).buffer);
    case "BF16":
      return new Uint8Array(toBf16(values).buffer);
    case "Q8_0":
      return toQ8(values);
  }
}

/** The rows of int8 blocks, a block a row, with the scale before the codes. */
function toQ8(values: Float32Array): Uint8Array {
  const rows = new Uint8Array(toBlocks(values, { stored: "int8", width: BLOCK.int8 }).buffer);
  const { words, scales } = rowLayout("int8", BLOCK.int8),
    bytes = new Uint8Array(values.length / BLOCK.int8 * BYTES);
  for (let from = 0, to = 0; to < bytes.length; from += 4 * words, to += BYTES) {
    bytes.set(rows.subarray(from + 4 * scales, from + 4 * scales + 2), to);
    bytes.set(rows.subarray(from, from + BLOCK.int8), to + 2);
  }
  return bytes;
}
