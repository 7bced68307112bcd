/**
 * Shapes and element types.
 *
 * @module
 */

import { refuse } from "./arguments.ts";

/**
 * Element type of a tensor. Everything differentiable is `f32`. The device may store frozen weights as `bf16`, which few ops
 * read.
 */
export type DType = "f32" | "i32" | "u32" | "bf16";

/** How the elements of a buffer are stored: a plan may store f32 tensors as f16. */
export type StorageType = DType | "f16";

/** Bytes per element on the device. */
export const ELEMENT_BYTES: { readonly [type in StorageType]: number } = {
  f32: 4,
  i32: 4,
  u32: 4,
  bf16: 2,
  f16: 2,
};

/** Shape and element type. */
export interface Spec {
  /** Sizes, outermost first; `[]` is a scalar. */
  readonly shape: readonly number[];
  /** Element type. */
  readonly dtype: DType;
}

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
  return a.length === b.length && a.every((d, i) => d === b[i]);
}
