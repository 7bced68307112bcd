/**
 * Long documents in pieces.
 *
 * @module
 */

/** A part of a document. */
export interface Piece {
  /** Its text. */
  readonly text: string;
  /** Whether it ends its document. */
  readonly ends: boolean;
}

/** Characters from which a piece ends at the next border, and those at which it ends anyway. */
export const PIECE = 2 ** 16, MOST_PIECE = 2 ** 18;

/** Sizes of pieces, in UTF-16 code units. */
export interface PieceSizes {
  /** Characters from which a piece ends at the next border. */
  readonly size?: number;
  /** Most characters of a piece. */
  readonly most?: number;
}

/**
 * Cuts a document into pieces. A piece ends after a letter or digit that white space follows. Where there is none for long,
 * as in Chinese, it ends where punctuation follows; and in a word of 262,144 characters it ends between two of them.
 *
 * @param chunks The document; where it is cut does not depend on how it comes
 * @param sizes Sizes of pieces
 * @returns The pieces; the last one ends the document
 */
export async function* piecesOf(
  chunks: AsyncIterable<string> | Iterable<string>,
  sizes: PieceSizes = {},
): AsyncGenerator<Piece, void, undefined> {
  let rest = "";
  for await (const chunk of chunks) {
    rest += chunk;
    for (let end = endOf(rest, sizes); end !== null; end = endOf(rest, sizes)) {
      yield { text: rest.slice(0, end), ends: false };
      rest = rest.slice(end);
    }
  }
  yield { text: rest, ends: true };
}

const SPACE_FOLLOWS = /(?<=[\p{L}\p{N}])(?=\s)/gu;
const NO_WORD_FOLLOWS = /(?<=[\p{L}\p{N}])(?=[^\p{L}\p{N}\p{M}])/gu;

/** Where the first piece of a text ends; null when more text decides, or nothing is left to cut. */
function endOf(text: string, { size = PIECE, most = MOST_PIECE }: PieceSizes): number | null {
  if (text.length <= size) return null;
  const space = find(SPACE_FOLLOWS, text, size);
  if (space !== null && space <= most) return space;
  if (text.length <= most) return null;
  const border = find(NO_WORD_FOLLOWS, text.slice(0, most), size);
  return border ?? (isLowSurrogate(text, most) ? most - 1 : most);
}

function find(pattern: RegExp, text: string, from: number): number | null {
  const search = new RegExp(pattern);
  search.lastIndex = from;
  return search.exec(text)?.index ?? null;
}

/** Whether the character at an index is the second half of one. */
export function isLowSurrogate(text: string, index: number): boolean {
  const code = text.charCodeAt(index);
  return code >= 0xdc00 && code < 0xe000;
}
