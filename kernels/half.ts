/**
 * float16 in plain JavaScript, for runtimes without `Float16Array` and `Math.f16round`, such as Node 22.
 *
 * @module
 */

/** A float64 from here on has no bits below one, so that adding and subtracting it rounds to integers, ties to even. */
const INTEGERS = 1.5 * 2 ** 52;

/** Bits of float32: infinity, 65520, which rounds to infinity, and the smallest normal float16. */
const INFINITE = 0x7f800000, OVERFLOW = 0x477ff000, NORMAL = 0x38800000;

/**
 * Rounds to float16: to nearest, ties to even.
 *
 * @param x Any number
 * @returns What `Math.f16round` gives
 */
export function roundToHalf(x: number): number {
  const size = Math.abs(x);
  if (size === 0 || Number.isNaN(x)) return x;
  if (size >= 65520) return Math.sign(x) * Infinity;
  // The distance of neighbours: numbers below 2^-14 are all 2^-24 apart.
  const step = 2 ** (Math.max(-14, Math.floor(Math.log2(size))) - 10);
  return Math.sign(x) * ((size / step + INTEGERS - INTEGERS) * step);
}

/** Rounds to float16, by what the runtime brings where it has it. */
export const f16round: (x: number) => number = Math.f16round ?? roundToHalf;

/**
 * Rounds to float16, as a `Float16Array` does.
 *
 * @param values float32
 * @returns The codes
 */
export function f16Codes(values: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(bits, (word, i) => {
    const sign = word >>> 16 & 0x8000, size = word & 0x7fffffff;
    if (size > INFINITE) return sign | 0x7e00;
    if (size >= OVERFLOW) return sign | 0x7c00;
    if (size < NORMAL) return sign | (Math.abs(values[i]) * 2 ** 24 + INTEGERS - INTEGERS);
    return sign | ((size - 0x38000000 + 0xfff + (size >>> 13 & 1)) >>> 13);
  });
}

/**
 * The number of a float16.
 *
 * @param code Its bits
 * @returns The number
 */
export function numberOf(code: number): number {
  const sign = code & 0x8000 ? -1 : 1, exponent = code >>> 10 & 31, fraction = code & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}
