/**
 * Fingerprints of data: whether two runs see the same.
 *
 * @module
 */

/**
 * A fingerprint of values: other values have another one but for chance. It keeps nobody from making two alike on purpose.
 *
 * @param parts Typed arrays or numbers, in order
 * @returns 16 hexadecimal digits
 *
 * @example
 * ```ts
 * import { assertEquals, assertNotEquals } from "@std/assert";
 * import { fingerprint } from "@firn/train/data";
 *
 * const ids = new Int32Array([1, 2, 3]);
 * assertEquals(fingerprint([ids]), fingerprint([ids.slice()]));
 * assertNotEquals(fingerprint([ids]), fingerprint([ids.with(0, 2)]));
 * ```
 */
export function fingerprint(parts: Iterable<Float32Array | Int32Array | Uint32Array | number>): string {
  // FNV-1a over words, and a second hash that mixes in the index: together 64 bits.
  let a = 0x811c9dc5, b = 0x9747b28c, count = 0;
  const add = (word: number): void => {
    a = Math.imul(a ^ word, 0x01000193);
    b = Math.imul((b ^ word ^ count++) + (b >>> 15), 0x85ebca6b);
  };
  for (const part of parts) {
    const words = typeof part === "number"
      ? [part]
      : new Uint32Array(part.buffer, part.byteOffset, part.length);
    add(words.length);
    for (let i = 0; i < words.length; i++) add(words[i]);
  }
  return [a ^ (a >>> 16), b ^ (b >>> 13)].map((n) => (n >>> 0).toString(16).padStart(8, "0")).join("");
}

/**
 * Text for {@link fingerprint}.
 *
 * @param text Any text
 * @returns Its bytes in UTF-8, one a word
 */
export function wordsOf(text: string): Uint32Array {
  return Uint32Array.from(new TextEncoder().encode(text));
}
