/**
 * Weights of few bits on the host: values to rows of blocks, and back. `kernels/blocks.ts` has the layout.
 *
 * @module
 */

import { BLOCK, type Blocked, rowLayout } from "../../kernels/blocks.ts";
import { DataError } from "../errors.ts";
import { fromF16, indexOfNonFinite, toF16 } from "./floats.ts";
import { fromNf4, toNf4 } from "./nf4.ts";

/** The largest code of int8. */
const LARGEST = 127;

/**
 * Rounds the rows of a matrix to blocks.
 *
 * - `int8`: blocks of 32 with an f16 scale `d = max |x| / 127` and codes `round(x / d)`, ties away from zero: Q8_0 of GGUF.
 * - `nf4`: blocks of 64, QLoRA's double quantization as bitsandbytes computes it.
 *
 * @param values f32, row-major
 * @param options The storage, the elements of a row, and the name of the tensor for an error
 * @returns The words of all rows
 * @throws {DataError} When a scale is beyond the range of f16
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { fromBlocks, toBlocks } from "@firn/train/data";
 *
 * const options = { stored: "int8", width: 3 } as const;
 * const words = toBlocks(new Float32Array([1, -0.5, 0.25]), options);
 * assertAlmostEquals(fromBlocks(words, options)[1], -0.5, 1 / 127);
 * ```
 */
export function toBlocks(
  values: Float32Array,
  { stored, width, name = "values" }: {
    readonly stored: Blocked;
    readonly width: number;
    readonly name?: string;
  },
): Uint32Array<ArrayBuffer> {
  if (stored === "nf4") return toNf4(values, width);
  const at = indexOfNonFinite(values, OVERFLOW);
  if (at < 0) return toInt8(values, width);
  throw new DataError(
    `Cannot store "${name}" as int8 as magnitudes must be below ${OVERFLOW}: value ${at} is ${values[at]}; ` +
      "load the model with another storage",
  );
}

/** From here on the f16 of a scale rounds to infinity. */
const OVERFLOW = 65520 * 127;

/**
 * Computes the values of rows of blocks, as kernels do.
 *
 * @param words The words of all rows
 * @param options The storage, and the elements of a row
 * @returns f32, row-major
 */
export function fromBlocks(
  words: Uint32Array<ArrayBuffer>,
  { stored, width }: { readonly stored: Blocked; readonly width: number },
): Float32Array<ArrayBuffer> {
  return stored === "int8" ? fromInt8(words, width) : fromNf4(words, width);
}

function toInt8(values: Float32Array, width: number): Uint32Array<ArrayBuffer> {
  const layout = rowLayout("int8", width), rows = values.length / width;
  const words = new Uint32Array(rows * layout.words), codes = new Int8Array(words.buffer);
  const scales = new Float32Array(layout.blocks), halves = new Uint16Array(words.buffer);
  for (let row = 0; row < rows; row++) {
    const begin = row * width, at = row * layout.words * 4;
    for (let block = 0; block < layout.blocks; block++) {
      const from = block * BLOCK.int8, to = Math.min(width, from + BLOCK.int8);
      let most = 0;
      for (let i = begin + from; i < begin + to; i++) {
        const size = Math.abs(values[i]);
        if (size > most) most = size;
      }
      const scale = Math.fround(most / LARGEST), inverse = scale === 0 ? 0 : Math.fround(1 / scale);
      scales[block] = scale;
      for (let i = from; i < to; i++) {
        const x = Math.fround(values[begin + i] * inverse);
        codes[at + i] = x < 0 ? -roundHalfUp(-x) : roundHalfUp(x);
      }
    }
    halves.set(toF16(scales), (at + layout.scales * 4) / 2);
  }
  return words;
}

/** Rounds a number from 0, as roundf does: the sum with a half, which f64 holds exactly, is never rounded up. */
const roundHalfUp = (x: number): number => Math.floor(x + 0.5);

function fromInt8(words: Uint32Array<ArrayBuffer>, width: number): Float32Array<ArrayBuffer> {
  const layout = rowLayout("int8", width), rows = words.length / layout.words;
  const codes = new Int8Array(words.buffer, words.byteOffset, words.byteLength);
  const halves = new Uint16Array(words.buffer, words.byteOffset, words.byteLength / 2);
  const values = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    const at = row * layout.words * 4, begin = (at + layout.scales * 4) / 2;
    const scales = fromF16(halves.subarray(begin, begin + layout.blocks));
    for (let i = 0; i < width; i++) values[row * width + i] = codes[at + i] * scales[i / BLOCK.int8 | 0];
  }
  return values;
}
