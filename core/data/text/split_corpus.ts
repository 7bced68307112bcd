/**
 * Held-out text.
 *
 * @module
 */

import { counted } from "../../counted.ts";
import { InputError } from "../../errors.ts";
import type { Corpus } from "./corpus.ts";
import { isLowSurrogate, type Piece } from "./pieces.ts";

/** Characters after the cut among which white space is looked for. */
const SPACE_WITHIN = 1000;

/**
 * Holds out the last part of a corpus. The cut falls between two documents or, inside one, before white space; between two
 * characters where there is none nearby, as in Chinese or DNA.
 *
 * @param corpus The corpus
 * @param holdOut Share of the characters to hold out, between 0 and 1
 * @returns What comes before the cut and what after
 * @throws {InputError} When a part would be blank
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { corpusOf, splitCorpus } from "@firn/train/data";
 *
 * const { train, heldOut } = await splitCorpus(corpusOf(["War", "and Peace"]), 0.5);
 * assertEquals(await Array.fromAsync(train.pieces(), ({ text }) => text), ["War", "and"]);
 * assertEquals(await Array.fromAsync(heldOut.pieces(), ({ text }) => text), [" Peace"]);
 * ```
 */
export async function splitCorpus(
  corpus: Corpus,
  holdOut = 0.1,
): Promise<{ readonly train: Corpus; readonly heldOut: Corpus }> {
  if (!(holdOut > 0 && holdOut < 1)) {
    throw new InputError(`Cannot split the text as "holdOut" must lie between 0 and 1: got ${holdOut}`);
  }
  const { end, begin } = await cutAt(corpus, Math.round(corpus.length * (1 - holdOut)));
  if (end === 0 || begin === corpus.length) {
    throw new InputError(
      `Cannot split the text as both parts must hold some: it has ${
        counted(corpus.length, "character")
      }; give more text`,
    );
  }
  return {
    train: part(corpus, { begin: 0, end }),
    heldOut: part(corpus, { begin, end: corpus.length }),
  };
}

/**
 * Where the first part ends and the second begins. Between the two lies what is blank of the document in which the cut
 * falls, or nothing.
 */
async function cutAt(
  corpus: Corpus,
  wanted: number,
): Promise<{ readonly end: number; readonly begin: number }> {
  // `near`: the text of the document after the wanted place; `before`, `after`: whether the document has text there.
  let start = 0, at = 0, near = "", before = false, after = false, cut: number | null = null;
  for await (const { text, ends } of corpus.pieces()) {
    const left = Math.max(0, wanted - at);
    before ||= text.slice(0, left).trim() !== "";
    near += text.slice(left);
    at += text.length;
    if (cut !== null) after ||= text.trim() !== "";
    else if (near !== "" && (ends || near.length >= SPACE_WITHIN)) {
      const space = near.slice(0, SPACE_WITHIN).search(/\s/);
      const shift = wanted === 0 ? 0 : space >= 0 ? space : isLowSurrogate(near, 0) ? 1 : 0;
      cut = wanted + shift;
      before ||= near.slice(0, shift).trim() !== "";
      after = near.slice(shift).trim() !== "";
    }
    if (cut !== null && (after || ends)) break;
    if (ends && at === wanted) return { end: at, begin: at };
    if (ends) [start, before] = [at, false];
  }
  return { end: before ? cut! : start, begin: after ? cut! : at };
}

/** What lies between two places. */
function part(corpus: Corpus, { begin, end }: { readonly begin: number; readonly end: number }): Corpus {
  return {
    length: end - begin,
    async *pieces(): AsyncGenerator<Piece, void, undefined> {
      let at = 0;
      for await (const { text, ends } of corpus.pieces()) {
        const inside = text.slice(Math.max(0, begin - at), Math.max(0, end - at));
        at += text.length;
        if (inside !== "") yield { text: inside, ends: ends || at >= end };
        if (at >= end) return;
      }
    },
  };
}
