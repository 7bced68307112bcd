/**
 * Reads 16-bit numbers from 32-bit words: each u32 holds two, the first in its lower half.
 *
 * WGSL has no bfloat16: shifted to the upper half of a word, it is an f32. f16 is read like this by loads of four elements
 * that may hold either type.
 *
 * @module
 */

import type { Blocked } from "./blocks.ts";

/**
 * Storage types of 16 bits. `half` is `f16` in words of 32 bits, two in each, which a kernel reads without the feature that
 * f16 bindings need.
 */
export type Packed = "bf16" | "f16" | "half";

/** How the elements of a matrix are stored. */
export type Stored = "f32" | Packed | Blocked;

/**
 * Declares the function, called by {@link halfAt}, that reads one number of 16 bits of a binding of words.
 *
 * @param name The binding, an `array<u32>`
 * @param stored What the numbers are
 * @returns WGSL
 */
export function halfReader(name: string, stored: Exclude<Packed, "f16">): string {
  const value = stored === "bf16"
    ? `bitcast<f32>((${name}[i / 2u] >> (i % 2u * 16u)) << 16u)`
    : `unpack2x16float(${name}[i / 2u] >> (i % 2u * 16u)).x`;
  return `fn ${name}_at(i: u32) -> f32 { return ${value}; }\n`;
}

/**
 * Reads one element.
 *
 * @param name The binding
 * @param index WGSL of the element's index
 * @returns WGSL, f32
 */
export function halfAt(name: string, index: string): string {
  return `${name}_at(${index})`;
}

/**
 * Widens one of four elements of one load.
 *
 * @param words WGSL of their words: x and y of a vector of u32
 * @param options Which element, and how it is stored
 * @returns WGSL, f32
 */
export function packedPart(
  words: string,
  { part, stored }: { readonly part: number; readonly stored: Packed },
): string {
  const word = `${words}.${"xxyy"[part]}`;
  return stored === "bf16"
    ? `bitcast<f32>(${word} ${part % 2 === 0 ? "<< 16u" : "& 0xffff0000u"})`
    : `unpack2x16float(${word}).${"xy"[part % 2]}`;
}

/**
 * Widens the four elements of one load.
 *
 * @param words WGSL of their words: x and y of a vector of u32
 * @param stored How they are stored
 * @returns WGSL, vec4<f32>
 */
export function packedQuad(words: string, stored: Packed): string {
  return stored === "bf16"
    ? `vec4<f32>(${[0, 1, 2, 3].map((part) => packedPart(words, { part, stored })).join(", ")})`
    : `vec4<f32>(unpack2x16float(${words}.x), unpack2x16float(${words}.y))`;
}
