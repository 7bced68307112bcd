/**
 * Unigram models: of all ways to divide a word into tokens, the one with the highest sum of scores.
 *
 * Source: Kudo 2018, "Subword regularization", by the algorithm of Viterbi; the penalty of unknown characters is that of
 * SentencePiece.
 *
 * @module
 */

import { trieOf } from "./trie.ts";

/** Data of {@link unigramEncoder}. */
export interface UnigramOptions {
  /** Tokens and scores, by id. */
  readonly entries: readonly (readonly [token: string, score: number])[];
  /** Id of unknown characters. */
  readonly unknown: number;
  /** Ids of the 256 bytes, which stand for unknown characters; null for none. */
  readonly bytes: readonly number[] | null;
}

/** How far below the lowest score an unknown character is. */
const PENALTY = 10;

/**
 * Makes the function from a word to ids.
 *
 * @param options Vocabulary and scores
 * @returns The function
 */
export function unigramEncoder(
  { entries, unknown, bytes }: UnigramOptions,
): (word: string) => readonly number[] {
  const trie = trieOf(entries.map(([token], id) => [token, id] as const));
  const lowest = entries.reduce((least, [, score]) => Math.min(least, score), Infinity) - PENALTY;
  function bestWays(word: string): { readonly starts: Int32Array; readonly ids: Int32Array } {
    const scores = new Float64Array(word.length + 1).fill(-Infinity);
    const starts = new Int32Array(word.length + 1), ids = new Int32Array(word.length + 1);
    scores[0] = 0;
    const offer = (start: number, end: number, id: number): void => {
      const score = scores[start] + (id === unknown ? lowest : entries[id][1]);
      if (score > scores[end]) [scores[end], starts[end], ids[end]] = [score, start, id];
    };
    for (let start = 0, width = 1; start < word.length; start += width) {
      width = word.codePointAt(start)! > 0xffff ? 2 : 1;
      let single = false, node = trie.next.get(word[start]);
      for (let end = start + 1; node !== undefined; node = node.next.get(word[end++])) {
        if (node.value === undefined) continue;
        single ||= end === start + width;
        offer(start, end, node.value);
      }
      if (!single) offer(start, start + width, unknown);
    }
    return { starts, ids };
  }
  return (word) => {
    const { starts, ids } = bestWays(word), found: { id: number; start: number; end: number }[] = [];
    for (let end = word.length; end > 0; end = starts[end]) {
      const last = found.at(-1);
      // Unknown characters side by side are one token.
      if (last !== undefined && last.id === unknown && ids[end] === unknown) last.start = starts[end];
      else found.push({ id: ids[end], start: starts[end], end });
    }
    return found.reverse().flatMap(({ id, start, end }) =>
      id !== unknown || bytes === null
        ? [id]
        : Array.from(new TextEncoder().encode(word.slice(start, end)), (byte) => bytes[byte])
    );
  };
}
