/**
 * Reading numbers of 16 bits from words of 32: two lie in a u32, the first in its lower half.
 *
 * For bfloat16 WGSL has no type: it becomes f32 exactly by moving to the upper half of a word. f16 is read so where four
 * elements at once may be of either.
 *
 * @module
 */

/** How the elements of a matrix are stored. */
export type Stored = "f32" | "bf16" | "f16";

/** Stored in words of two. */
export type Packed = Exclude<Stored, "f32">;

/**
 * Declares the function that reads one bfloat16 of a binding of words, by the name of {@link bf16At}.
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
 * Widens one of four elements that were loaded at once.
 *
 * @param words WGSL of their words: x and y of a vector of u32
 * @param options Which of them, and what the words hold
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
 * Widens four elements that were loaded at once.
 *
 * @param words WGSL of their words: x and y of a vector of u32
 * @param stored What they hold
 * @returns WGSL, vec4<f32>
 */
export function packedQuad(words: string, stored: Packed): string {
  return stored === "bf16"
    ? `vec4<f32>(${[0, 1, 2, 3].map((part) => packedPart(words, { part, stored })).join(", ")})`
    : `vec4<f32>(unpack2x16float(${words}.x), unpack2x16float(${words}.y))`;
}
