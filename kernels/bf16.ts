/**
 * Reading bfloat16, for which WGSL has no type: two elements lie in a u32, the first in its lower half, and become f32
 * exactly by moving to the upper half of one.
 *
 * @module
 */

/** How the elements of a matrix are stored. */
export type Stored = "f32" | "bf16";

/**
 * Declares the function that reads one element of a binding of words, by the name of {@link bf16At}.
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
 * @param part Which of them
 * @returns WGSL, f32
 */
export function bf16Part(words: string, part: number): string {
  return `bitcast<f32>(${words}.${"xxyy"[part]} ${part % 2 === 0 ? "<< 16u" : "& 0xffff0000u"})`;
}

/**
 * Widens four elements that were loaded at once.
 *
 * @param words WGSL of their words: x and y of a vector of u32
 * @returns WGSL, vec4<f32>
 */
export function bf16Quad(words: string): string {
  return `vec4<f32>(${[0, 1, 2, 3].map((part) => bf16Part(words, part)).join(", ")})`;
}
