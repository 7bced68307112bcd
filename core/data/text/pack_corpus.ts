/**
 * The token ids of a corpus.
 *
 * @module
 */

import { type Encoder, packer } from "../tokenizer/documents.ts";
import type { Corpus } from "./corpus.ts";
import { MOST_PIECE, type Piece, type PieceSizes, piecesOf } from "./pieces.ts";

/** Options of {@link packCorpus}. */
export interface PackCorpusOptions {
  /** Is called after each piece with the characters that are encoded. */
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void;
}

/**
 * Encodes a corpus and packs it into one stream for `tokenWindows`: the same ids as `packDocuments` gives for the whole
 * documents, with a piece in memory at a time. The ids take 4 bytes each.
 *
 * A document is encoded in pieces where the tokenizer gives the same ids for the parts as for the whole. Where there is no
 * such place for 262,144 characters, it is cut all the same.
 *
 * @param tokenizer The tokenizer
 * @param corpus The corpus
 * @param options Who hears how far it is
 * @returns The stream
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { corpusOf, loadTokenizer, packCorpus, packDocuments } from "@firn/train/data";
 *
 * const tokenizer = await loadTokenizer("examples/models/sotu"), documents = ["War", "Peace"];
 * assertEquals(await packCorpus(tokenizer, corpusOf(documents)), packDocuments(tokenizer, documents));
 * ```
 */
export async function packCorpus(
  tokenizer: Encoder,
  corpus: Corpus,
  { onProgress, sizes }: PackCorpusOptions & { readonly sizes?: PieceSizes } = {},
): Promise<Int32Array<ArrayBuffer>> {
  const packed = packer(tokenizer);
  let done = 0;
  const pieces = packed.framed ? corpus.pieces() : piecesOf(joined(corpus), sizes);
  for await (const { ids, ends, length } of encoded(tokenizer, pieces, sizes)) {
    packed.add(ids, { ends });
    done += length;
    onProgress?.({ done: Math.min(done, corpus.length), total: corpus.length });
  }
  return packed.take();
}

/** The documents as one text with blank lines between. */
async function* joined(corpus: Corpus): AsyncGenerator<string, void, undefined> {
  let ended = false;
  for await (const { text, ends } of corpus.pieces()) {
    if (ended) yield "\n\n";
    yield text;
    ended = ends;
  }
}

/** Text that was read and is not encoded yet, after a border at which the tokenizer cuts. */
interface Held {
  readonly text: string;
  /** The text before the border, and how many ids it has. The tokenizer may tell the beginning of a text apart. */
  readonly context: string;
  readonly known: number;
}

/** Ids of a piece, and how many characters it has. */
interface Encoded {
  readonly ids: readonly number[];
  readonly ends: boolean;
  readonly length: number;
}

const BEGIN: Held = { text: "", context: "", known: 0 };

async function* encoded(
  tokenizer: Encoder,
  pieces: AsyncIterable<Piece>,
  { most = MOST_PIECE }: PieceSizes = {},
): AsyncGenerator<Encoded, void, undefined> {
  const encode = ({ text, context, known }: Held, ends: boolean): Encoded => ({
    ids: tokenizer.encode(context + text).slice(known),
    ends,
    length: text.length,
  });
  let held = BEGIN;
  for await (const { text, ends } of pieces) {
    if (held.text !== "") {
      const next = afterBorder(tokenizer, held.text, text) ?? (held.text.length >= most ? BEGIN : null);
      if (next !== null) {
        yield encode(held, false);
        held = next;
      }
    }
    held = { ...held, text: held.text + text };
    if (ends) {
      yield encode(held, ends);
      held = BEGIN;
    }
  }
}

/** Characters to either side of a border by which the tokenizer is tried. */
const NEAR = 64;

/** What is known when a border lies between two texts; null when a token may reach over it. */
function afterBorder({ encode }: Encoder, left: string, right: string): Held | null {
  if (!/[\p{L}\p{N}]$/u.test(left.slice(-2)) || !/^[^\p{L}\p{N}\p{M}]/u.test(right.slice(0, 2))) return null;
  const near = left.slice(-NEAR), space = near.search(/\s/);
  const context = space < 0 ? near : near.slice(space);
  const before = encode(context), both = encode(context + right.slice(0, NEAR));
  return before.every((id, i) => id === both[i]) ? { text: "", context, known: before.length } : null;
}
