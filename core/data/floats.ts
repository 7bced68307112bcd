/**
 * The 16-bit floating-point formats of checkpoints, and values that are no finite numbers.
 *
 * @module
 */

import { f16Codes, numberOf } from "../../kernels/half.ts";

/**
 * Rounds to bfloat16: to nearest, ties to even. NaN stays NaN; values out of range become infinite.
 *
 * @param values float32
 * @returns The bfloat16 codes
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { toBf16 } from "@firn/train/data";
 *
 * assertEquals(toBf16(new Float32Array([1, -2])), new Uint16Array([0x3f80, 0xc000]));
 * ```
 */
export function toBf16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const codes = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const b = bits[i], isNaN = (b & 0x7fffffff) > 0x7f800000;
    codes[i] = isNaN ? (b >>> 16) | 0x40 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
  }
  return codes;
}

/**
 * Widens bfloat16 to float32, exactly.
 *
 * @param codes The bfloat16 codes
 * @param into Where the values go, if it has room: no memory is taken for them then
 * @returns float32
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fromBf16 } from "@firn/train/data";
 *
 * assertEquals(fromBf16(new Uint16Array([0x3f80, 0xc000])), new Float32Array([1, -2]));
 * ```
 */
export function fromBf16(
  codes: Uint16Array,
  into?: Float32Array<ArrayBuffer>,
): Float32Array<ArrayBuffer> {
  const values = into !== undefined && into.length >= codes.length
    ? into.subarray(0, codes.length)
    : new Float32Array(codes.length);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const pairs = codes.byteOffset % 4 === 0 ? codes.length >>> 1 : 0;
  // Two codes at a time take a third of the time.
  const words = new Uint32Array(codes.buffer, codes.byteOffset - codes.byteOffset % 4, pairs);
  for (let i = 0; i < pairs; i++) {
    bits[2 * i] = words[i] << 16;
    bits[2 * i + 1] = words[i] & 0xffff0000;
  }
  for (let i = 2 * pairs; i < codes.length; i++) bits[i] = codes[i] << 16;
  return values;
}

/**
 * Rounds to float16: to nearest, ties to even. NaN stays NaN; values beyond 65504 become infinite.
 *
 * @param values float32
 * @returns The float16 codes
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { toF16 } from "@firn/train/data";
 *
 * assertEquals(toF16(new Float32Array([1, -2])), new Uint16Array([0x3c00, 0xc000]));
 * ```
 */
export function toF16(values: Float32Array): Uint16Array<ArrayBuffer> {
  if (typeof Float16Array === "undefined") return f16Codes(values); // Node 22
  return new Uint16Array(new Float16Array(values).buffer);
}

/**
 * Widens float16 to float32, exactly.
 *
 * @param codes The float16 codes
 * @returns float32
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fromF16 } from "@firn/train/data";
 *
 * assertEquals(fromF16(new Uint16Array([0x3c00, 0xc000])), new Float32Array([1, -2]));
 * ```
 */
export function fromF16(codes: Uint16Array): Float32Array<ArrayBuffer> {
  if (typeof Float16Array === "undefined") return Float32Array.from(codes, numberOf); // Node 22
  return new Float32Array(new Float16Array(codes.buffer as ArrayBuffer, codes.byteOffset, codes.length));
}

/**
 * Finds a value that is NaN, infinite, or as large as a limit.
 *
 * @param values Any numbers
 * @param limit Magnitudes from here on count; only those that are infinite when absent
 * @returns The index of the first; -1 when there is none
 */
export function indexOfNonFinite(values: ArrayLike<number>, limit = Infinity): number {
  // A plain loop: findIndex takes ten times as long, and checkpoints are scanned whole.
  for (let i = 0; i < values.length; i++) if (!(Math.abs(values[i]) < limit)) return i;
  return -1;
}

/**
 * Finds a bfloat16 that is NaN or infinite.
 *
 * @param codes The bfloat16 codes
 * @returns The index of the first; -1 when there is none
 */
export function indexOfNonFiniteBf16(codes: Uint16Array): number {
  const isBad = (code: number): boolean => (code & 0x7f80) === 0x7f80;
  const pairs = codes.byteOffset % 4 === 0 ? codes.length >>> 1 : 0;
  // Two codes at a time take half the time.
  const words = new Uint32Array(codes.buffer, codes.byteOffset - codes.byteOffset % 4, pairs);
  for (let i = 0; i < pairs; i++) {
    if (isBad(words[i])) return 2 * i;
    if (isBad(words[i] >>> 16)) return 2 * i + 1;
  }
  for (let i = 2 * pairs; i < codes.length; i++) if (isBad(codes[i])) return i;
  return -1;
}
