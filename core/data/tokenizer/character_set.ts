/**
 * Sets of characters, as far as expressions tell characters apart.
 *
 * @module
 */

/** All characters of the first plane, and some of the others. */
const CHARACTERS: readonly string[] = Array.from({ length: 0x10000 + 0x2000 }, (_, i) => {
  if (i >= 0x10000) return String.fromCodePoint(0x10000 + (i - 0x10000) * 97);
  return i >= 0xd800 && i < 0xe000 ? "a" : String.fromCharCode(i);
});

/** A set: for each of the characters whether it is in it. */
export type CharacterSet = Uint8Array<ArrayBuffer>;

/**
 * Finds the characters that an expression of one character matches.
 *
 * @param source Its text, for the flag `v`
 * @returns The set
 */
export function characterSet(source: string): CharacterSet {
  const expression = new RegExp(`^${source}$`, "v");
  return Uint8Array.from(CHARACTERS, (character) => Number(expression.test(character)));
}

/** The characters of several sets. */
export function union(sets: readonly CharacterSet[]): CharacterSet {
  const all = new Uint8Array(CHARACTERS.length);
  for (const set of sets) for (let i = 0; i < all.length; i++) all[i] |= set[i];
  return all;
}

/** Whether two sets have a character in common. */
export function meets(a: CharacterSet, b: CharacterSet): boolean {
  return a.some((inside, i) => inside === 1 && b[i] === 1);
}

/** Whether a set has all characters of another. */
export function holds(outer: CharacterSet, inner: CharacterSet): boolean {
  return inner.every((inside, i) => inside === 0 || outer[i] === 1);
}
