/**
 * Keeps values that are not numbers out of models and files.
 *
 * @module
 */

import { fromBf16, indexOfNonFinite, indexOfNonFiniteBf16 } from "../data/floats.ts";
import { DataError, InputError } from "../errors.ts";

/** Where values come from, for errors. */
export interface ValueSource {
  /** Name of the tensor. */
  readonly name: string;
  /** The file that holds it. */
  readonly path: string;
  /** Index of the first value in the tensor, where only a part of it is looked at. */
  readonly first?: number;
}

/**
 * Refuses values of a file that are NaN or infinite, or were too large for f32.
 *
 * @param values The values, f32 or codes of bf16
 * @param source Names of the tensor and of its file
 * @throws {DataError} When a value is not finite
 */
export function checkLoaded(
  values: Float32Array | Uint16Array,
  { name, path, first = 0 }: ValueSource,
): void {
  const at = values instanceof Uint16Array ? indexOfNonFiniteBf16(values) : indexOfNonFinite(values);
  if (at < 0) return;
  const value = values instanceof Uint16Array ? fromBf16(values.subarray(at, at + 1))[0] : values[at];
  throw new DataError(
    `Cannot load "${name}" of "${path}" as its values must be finite in f32: value ${
      first + at
    } is ${value}; ` +
      "get the file again, or an earlier checkpoint of it",
  );
}

/** From where on a magnitude rounds to infinity. */
const OVERFLOW = {
  float32: Infinity,
  bfloat16: 2 ** 128 - 2 ** 119,
  float16: 65520,
  // The scale of a block is an f16.
  q8_0: 127 * 65520,
} as const;

/**
 * Refuses values that a file would hold as NaN or as infinity.
 *
 * @param values The values, f32
 * @param options `name` of the tensor, the `folder` it goes to, the `dtype` it is stored as, and the index of the `first`
 * value in the tensor; 0 when absent
 * @throws {InputError} When a value is not finite, or rounds to infinity in the type
 */
export function checkStorable(
  values: Float32Array,
  { name, folder, dtype, first = 0 }: {
    readonly name: string;
    readonly folder: string;
    readonly dtype: keyof typeof OVERFLOW;
    readonly first?: number;
  },
): void {
  const at = indexOfNonFinite(values, OVERFLOW[dtype]);
  if (at < 0) return;
  const seen = `value ${first + at} is ${values[at]}`;
  throw new InputError(
    Number.isFinite(values[at])
      ? `Cannot save "${name}" to "${folder}" as ${dtype} must hold its values: ${seen}; save as ${
        dtype === "float16" ? "bfloat16 or " : ""
      }float32`
      : `Cannot save "${name}" to "${folder}" as its values must be finite: ${seen}; ` +
        "train again from a checkpoint before they were not",
  );
}
