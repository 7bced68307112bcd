/**
 * Keeps values that are not numbers out of files.
 *
 * @module
 */

import { InputError } from "../errors.ts";

/** From where on a magnitude rounds to infinity. */
const OVERFLOW = { float32: Infinity, bfloat16: 2 ** 128 - 2 ** 119, float16: 65520 } as const;

/**
 * Refuses values that a file would hold as NaN or as infinity.
 *
 * @param values The values, f32
 * @param options `name` of the tensor, the `folder` it goes to, and the `dtype` it is stored as
 * @throws {InputError} When a value is not finite, or rounds to infinity in the type
 */
export function checkStorable(
  values: Float32Array,
  { name, folder, dtype }: {
    readonly name: string;
    readonly folder: string;
    readonly dtype: keyof typeof OVERFLOW;
  },
): void {
  const limit = OVERFLOW[dtype];
  const at = values.findIndex((value) => !(Math.abs(value) < limit));
  if (at < 0) return;
  const seen = `value ${at} is ${values[at]}`;
  throw new InputError(
    Number.isFinite(values[at])
      ? `Cannot save "${name}" to "${folder}" as ${dtype} must hold its values: ${seen}; save as float32 or bfloat16`
      : `Cannot save "${name}" to "${folder}" as its values must be finite: ${seen}; ` +
        "train again from a checkpoint before they were not",
  );
}
