/**
 * Pairs: f32 numbers as the sums of two f16, for matrix units of f16 operands.
 *
 * A row of A and a column of B are first multiplied by a power of two, which brings their largest magnitudes to between 2^14
 * and 2^15. The first part of a pair is the number rounded to f16, the second what that lost, rounded too. Of the four
 * products of two pairs, that of the second parts is left out. A pair keeps 22 bits of numbers down to 2^-16 of the largest, and 2^-38
 * of the largest otherwise. Numbers are rounded by their bits: compilers take a conversion to f16 and back for nothing.
 *
 * So a sum whose terms are alike is wrong where one factor grows along k by 2^38 and the other one shrinks as much: the scales are
 * those of whole rows and columns. No single scale per row helps there.
 *
 * Matrix units cut off what does not fit the sums, instead of rounding it. So sums are added up in f32 after every few steps.
 *
 * Source: Ootomo and Yokota, "Recovering single precision accuracy from Tensor Cores while surpassing the FP32 theoretical
 * peak performance", arXiv 2203.03341. There the second part is multiplied by 2^11, which the scales make unnecessary.
 *
 * @module
 */

import { f16round } from "../half.ts";
import type { MatrixWords } from "../matrix_words.ts";

/** Steps along k after which sums are added up in f32: a multiple of the depth of all tiles that a workgroup has on their way. */
export const SEGMENT = 256;

/** The exponent that the largest magnitude of a row gets: f16 reaches to 2^16. */
const TOP = 14;
/** Exponents of factors: those of f32 that have an inverse. */
const SMALLEST = -126, LARGEST = 126;

/** f16 has 13 bits less than f32: half a step of it, and a mask of what it keeps. */
const HALF_STEP = 2 ** 12, MASK = 2 ** 32 - 2 ** 13;

/**
 * The power of two by which a row of A or a column of B is multiplied.
 *
 * @param largest Its largest magnitude
 * @returns The exponent
 */
export function shiftOf(largest: number): number {
  const exponent = (new Uint32Array(Float32Array.of(largest).buffer)[0] >>> 23 & 255) - 127;
  return Math.min(Math.max(TOP - exponent, SMALLEST), LARGEST);
}

/**
 * The pair of a number.
 *
 * @param x The number
 * @param shift The power of two of its row or column
 * @returns Both parts, f16 numbers
 */
export function pair(x: number, shift: number): readonly [number, number] {
  const scaled = Float32Array.of(x * 2 ** shift), bits = new Uint32Array(scaled.buffer), [number] = scaled;
  bits[0] = (bits[0] + HALF_STEP & MASK) >>> 0;
  return [f16round(scaled[0]), f16round(number - scaled[0])];
}

/**
 * WGSL functions that make pairs.
 *
 * @param words The words of a dialect
 * @returns Declarations
 */
export function pairFunctions({ halfWords }: Pick<MatrixWords, "halfWords">): string {
  return `struct Pair { first: vec4<u32>, second: vec4<u32> }
fn shift_of(largest: u32) -> i32 {
return clamp(${TOP + 127} - i32(largest >> 23u), ${SMALLEST}, ${LARGEST});
}
fn power_of_two(shift: i32) -> f32 { return bitcast<f32>(u32(shift + 127) << 23u); }
fn powers_of_two(shift: vec4<i32>) -> vec4<f32> {
return bitcast<vec4<f32>>(vec4<u32>(shift + 127) << vec4<u32>(23u));
}
fn rounded(x: vec4<f32>) -> vec4<f32> {
return bitcast<vec4<f32>>((bitcast<vec4<u32>>(x) + vec4<u32>(${HALF_STEP}u)) & vec4<u32>(${MASK}u));
}
fn pair_of(x: vec4<f32>, y: vec4<f32>) -> Pair {
let a = rounded(x); let b = rounded(y);
return Pair(
vec4<u32>(${halfWords("a")}, ${halfWords("b")}),
vec4<u32>(${halfWords("(x - a)")}, ${halfWords("(y - b)")}));
}
fn scaled_back(sums: vec4<f32>, row: i32, columns: vec4<i32>) -> vec4<f32> {
let shift = -(columns + row);
let half = shift / 2;
return sums * powers_of_two(half) * powers_of_two(shift - half);
}
`;
}

/** WGSL for the pairs of eight numbers, given as two quads, and the factors of these. */
export function pairOf(
  [first, second]: readonly [string, string],
  factors: readonly [string, string],
): string {
  return `pair_of(${first} * ${factors[0]}, ${second} * ${factors[1]})`;
}
