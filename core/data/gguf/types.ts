/**
 * Types of GGUF files: those of metadata, and those of tensors.
 *
 * Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, and `constants.py` of the package `gguf`.
 *
 * @module
 */

/** A type whose elements share scales in blocks along a row. */
export type BlockDType = "Q4_0" | "Q4_1" | "Q5_0" | "Q5_1" | "Q8_0" | "Q4_K" | "Q5_K" | "Q6_K";

/** Types of tensors that are read. */
export type GgufDType = "F32" | "F16" | "BF16" | "F64" | BlockDType;

/** How a type is stored. */
interface TensorType {
  /** Its number in the file. */
  readonly code: number;
  /** Elements of a block; a row is whole blocks. */
  readonly elements: number;
  /** Bytes of a block. */
  readonly bytes: number;
}

/** The types of tensors that are read. */
export const TENSOR_TYPES: Readonly<Record<GgufDType, TensorType>> = {
  F32: { code: 0, elements: 1, bytes: 4 },
  F16: { code: 1, elements: 1, bytes: 2 },
  Q4_0: { code: 2, elements: 32, bytes: 18 },
  Q4_1: { code: 3, elements: 32, bytes: 20 },
  Q5_0: { code: 6, elements: 32, bytes: 22 },
  Q5_1: { code: 7, elements: 32, bytes: 24 },
  Q8_0: { code: 8, elements: 32, bytes: 34 },
  Q4_K: { code: 12, elements: 256, bytes: 144 },
  Q5_K: { code: 13, elements: 256, bytes: 176 },
  Q6_K: { code: 14, elements: 256, bytes: 210 },
  F64: { code: 28, elements: 1, bytes: 8 },
  BF16: { code: 30, elements: 1, bytes: 2 },
};

/** Names of types that are not read, for errors. */
export const OTHER_TYPES: Readonly<Record<number, string>> = {
  9: "Q8_1",
  10: "Q2_K",
  11: "Q3_K",
  15: "Q8_K",
  16: "IQ2_XXS",
  17: "IQ2_XS",
  18: "IQ3_XXS",
  19: "IQ1_S",
  20: "IQ4_NL",
  21: "IQ3_S",
  22: "IQ2_S",
  23: "IQ4_XS",
  24: "I8",
  25: "I16",
  26: "I32",
  27: "I64",
  29: "IQ1_M",
  34: "TQ1_0",
  35: "TQ2_0",
  39: "MXFP4",
  40: "NVFP4",
  41: "Q1_0",
};

/** Types of metadata, by their number in the file. */
export const VALUE_TYPES = [
  "u8",
  "i8",
  "u16",
  "i16",
  "u32",
  "i32",
  "f32",
  "bool",
  "string",
  "array",
  "u64",
  "i64",
  "f64",
] as const;

/** A type of metadata. */
export type ValueType = typeof VALUE_TYPES[number];

/** Bytes of a value; of a text, those of its length. */
export const VALUE_BYTES: Readonly<Record<ValueType, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  bool: 1,
  string: 8,
  array: 12,
  u64: 8,
  i64: 8,
  f64: 8,
};

/** The first bytes of a file, `GGUF`, as a little-endian number, and the version that is written. */
export const MAGIC = 0x46554747, VERSION = 3;

/** Bytes that tensors begin at a multiple of, where the file says nothing else. */
export const ALIGNMENT = 32;

/** The next multiple of an alignment. */
export function aligned(at: number, alignment: number): number {
  return Math.ceil(at / alignment) * alignment;
}
