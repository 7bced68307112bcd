/**
 * Words that were encoded before. Most words of a text are few.
 *
 * @module
 */

/** Entries of the cache, and characters of a word in it. */
const MOST = 2 ** 16, LONGEST = 256;

/**
 * Remembers what words are encoded to.
 *
 * @param encode Encodes a word
 * @returns The same function, faster
 */
export function cached(encode: (word: string) => readonly number[]): (word: string) => readonly number[] {
  let known = new Map<string, readonly number[]>();
  return (word) => {
    const before = known.get(word);
    if (before !== undefined) return before;
    if (word.length > LONGEST) return encode(word);
    const own = copied(word), ids = encode(own);
    // Emptying it at times costs less than an order of use at every word.
    if (known.size === MOST) known = new Map();
    known.set(own, ids);
    return ids;
  };
}

/** The same word in memory of its own: a part of a string may keep the whole of it alive. */
function copied(word: string): string {
  return ` ${word}`.slice(1);
}
