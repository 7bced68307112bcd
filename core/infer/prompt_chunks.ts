/**
 * Cuts the tokens of prompts into chunks of one size for all sequences.
 *
 * @module
 */

/** The tokens of a sequence. */
export interface Text {
  /** All tokens that count. */
  readonly tokens: readonly number[];
  /** How many of the first tokens the cache holds. */
  readonly cached: number;
  /** How many of the last tokens were generated. */
  readonly generated: number;
  /** Tokens before these that no longer count, as the sequence is longer than the model allows. */
  readonly dropped: number;
}

/** Some tokens of each sequence. Rows that hold fewer are padded on the right, which no token before can see. */
export interface PromptChunk {
  /** Tokens T of each sequence. */
  readonly time: number;
  /** Ids, [B, T]. */
  readonly ids: Int32Array;
  /** Position of the first token of each sequence, [B]. */
  readonly start: Int32Array;
  /** Position of each token, [B T]. */
  readonly positions: Int32Array;
  /** The row of the last token of each sequence among all B T. */
  readonly last: Int32Array;
}

/** Most tokens of a chunk. */
const LONGEST = 512;
/** Fewest: chunks of few sizes have to be compiled. */
const SHORTEST = 8;

/**
 * Cuts texts so that the last chunk ends with the last token of each text. Where texts differ in length, some tokens of the
 * shorter ones are read again.
 *
 * @param texts The texts, of at least one token each
 * @param options `capacity`: places of the cache; a position beyond it is that of padding
 * @returns The chunks, in order
 */
export function promptChunks(
  texts: readonly Text[],
  { capacity }: { readonly capacity: number },
): readonly PromptChunk[] {
  // The last token is always read, as the next one follows from it.
  const most = Math.max(
    ...texts.map(({ tokens, cached }) => tokens.length - Math.min(cached, tokens.length - 1)),
  );
  const time = Math.min(LONGEST, capacity, Math.max(SHORTEST, 2 ** Math.ceil(Math.log2(most))));
  const count = Math.ceil(most / time);
  return Array.from({ length: count }, (_, c): PromptChunk => {
    const ids = new Int32Array(texts.length * time), positions = new Int32Array(texts.length * time);
    const start = new Int32Array(texts.length), last = new Int32Array(texts.length);
    texts.forEach(({ tokens }, r) => {
      start[r] = Math.max(0, tokens.length - (count - c) * time);
      last[r] = r * time + Math.min(time, tokens.length - start[r]) - 1;
      for (let t = 0; t < time; t++) {
        ids[r * time + t] = tokens[start[r] + t] ?? 0;
        positions[r * time + t] = Math.min(start[r] + t, capacity - 1);
      }
    });
    return { time, ids, start, positions, last };
  });
}
