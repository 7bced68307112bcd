/**
 * Sets of characters, as far as expressions tell characters apart.
 *
 * @module
 */

/** Characters beyond the first plane that one of them stands for. */
const STRIDE = 97;

/** All characters of the first plane, and one of each stride of the others. */
const CHARACTERS: readonly string[] = Array.from({ length: indexOf(0x10ffff) + 1 }, (_, i) => {
  if (i >= 0x10000) return String.fromCodePoint(0x10000 + (i - 0x10000) * STRIDE);
  return i >= 0xd800 && i < 0xe000 ? "a" : String.fromCharCode(i);
});

function indexOf(code: number): number {
  return code < 0x10000 ? code : 0x10000 + Math.floor((code - 0x10000) / STRIDE);
}

/** A set: for each of the characters whether it is in it. */
export type CharacterSet = Uint8Array<ArrayBuffer>;

/**
 * Finds the characters that an expression of one character matches.
 *
 * @param source Its text, for the flag `v`
 * @returns The set
 */
export function characterSet(source: string): CharacterSet {
  const named = Array.from(source.matchAll(/\\u\{([0-9a-f]+)\}/g), ([, code]) => parseInt(code, 16));
  const set = new Uint8Array(CHARACTERS.length);
  if (/^\\u\{[0-9a-f]+\}$/.test(source)) set[indexOf(named[0])] = 1;
  else {
    const expression = new RegExp(`^${source}$`, "v");
    for (let i = 0; i < set.length; i++) set[i] = Number(expression.test(CHARACTERS[i]));
    for (const code of named) if (code >= 0x10000) set[indexOf(code)] = 1;
  }
  return set;
}

/** The characters of several sets. */
export function union(sets: readonly CharacterSet[]): CharacterSet {
  const all = new Uint8Array(CHARACTERS.length);
  for (const set of sets) for (let i = 0; i < all.length; i++) all[i] |= set[i];
  return all;
}

/** Whether two sets have a character in common. */
export function meets(a: CharacterSet, b: CharacterSet): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] & b[i]) return true;
  return false;
}

/** Whether a set has all characters of another. */
export function holds(outer: CharacterSet, inner: CharacterSet): boolean {
  for (let i = 0; i < inner.length; i++) if (inner[i] & ~outer[i]) return false;
  return true;
}
