/**
 * Reads 16-bit numbers from 32-bit words: each u32 holds two, the first in its lower half.
 *
 * WGSL has no bfloat16: shifted to the upper half of a word, it is an f32. f16 is read like this by loads of four elements
 * that may hold either type.
 *
 * @module
 */

/** How the elements of a matrix are stored. */
export type Stored = "f32" | "bf16" | "f16";

/** Storage types of 16 bits. */
export type Packed = Exclude<Stored, "f32">;

/**
 * Declares the function, called by {@link bf16At}, that reads one bfloat16 of a binding of words.
 *
 * @param name The binding, an `array<u32>`
 * @returns WGSL
 */
export function bf16Reader(name: string): string {
  return `fn ${name}_at(i: u32) -> f32 { return bitcast<f32>((${name}[i / 2u] >> (i % 2u * 16u)) << 16u); }\n`;
}

/**
 * Reads one element.
 *
 * @param name The binding
 * @param index WGSL of the element's index
 * @returns WGSL, f32
 */
export function bf16At(name: string, index: string): string {
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
