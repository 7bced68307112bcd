/**
 * Shapes and element types.
 *
 * @module
 */

import { isBlocked, rowLayout } from "../kernels/blocks.ts";
import { refuse } from "./arguments.ts";

/**
 * How the device may store frozen weights in fewer bytes than f32: 16-bit numbers, or blocks of codes with a scale (see
 * `kernels/blocks.ts`). Products and embeddings read them as they are; for other ops they are widened to f32 first.
 */
export type PackedType = "bf16" | "f16" | "int8" | "nf4";

/** Element type of a tensor. Everything differentiable is `f32`. */
export type DType = "f32" | "i32" | "u32" | PackedType;

/** Bytes per element on the device, of types that have as many for each. */
const ELEMENT_BYTES = { f32: 4, i32: 4, u32: 4, bf16: 2, f16: 2, half: 2 } as const;

/** All element types. */
export const DTYPES: readonly DType[] = ["f32", "i32", "u32", "bf16", "f16", "int8", "nf4"];

/** Whether elements are stored in fewer bytes than f32, so that they cannot be trained. */
export function isPacked(dtype: DType): dtype is PackedType {
  return dtype === "bf16" || dtype === "f16" || isBlocked(dtype);
}

/** Shape and element type. */
export interface Spec {
  /** Sizes, outermost first; `[]` is a scalar. */
  readonly shape: readonly number[];
  /** Element type. */
  readonly dtype: DType;
}

/**
 * Bytes of the elements of a tensor on the device, without what a buffer has behind the last one.
 *
 * @param spec Shape and type; rows of blocks are padded, and lie along the last axis
 * @returns Bytes
 */
export function elementBytes({ shape, dtype }: StoredSpec): number {
  if (!isBlocked(dtype)) return ELEMENT_BYTES[dtype] * sizeOf(shape);
  return 4 * rowLayout(dtype, shape.at(-1) ?? 1).words * sizeOf(shape.slice(0, -1));
}

/**
 * How a kernel finds the elements of a buffer. A plan may store f32 tensors as f16; weights of type f16 are `half`: the same
 * numbers, two in a word.
 */
export type StorageType = DType | "half";

/** Shape and storage type. */
export interface StoredSpec {
  /** Sizes, outermost first. */
  readonly shape: readonly number[];
  /** How the elements are stored. */
  readonly dtype: StorageType;
}

/**
 * Number of elements of a shape.
 *
 * @param shape Sizes
 * @returns Their product; 1 for a scalar
 * @throws {InputError} When it is not a list
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sizeOf } from "@firn/train";
 *
 * assertEquals(sizeOf([2, 3]), 6);
 * ```
 */
export function sizeOf(shape: readonly number[]): number {
  if (!Array.isArray(shape) || shape.some((size) => typeof size !== "number")) {
    refuse("sizeOf", "a shape is a list of sizes", shape);
  }
  return shape.reduce((n, d) => n * d, 1);
}

/** Whether two shapes are the same. */
export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a === b || a.length === b.length && a.every((d, i) => d === b[i]);
}
