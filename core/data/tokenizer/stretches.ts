/**
 * Long texts in parts that can be encoded one by one.
 *
 * @module
 */

import type { Fields } from "./fields.ts";
import type { WordModel } from "./model.ts";

/** Characters from which a text is cut. */
const LONG = 2 ** 16;

/** Pre-tokenizers that match nothing of both sides of a border. */
const SPLITTERS = ["ByteLevel", "Digits", "Punctuation", "Metaspace"];

/** Pre-tokenizers that cut at white space. */
const AT_SPACE = ["Whitespace", "WhitespaceSplit", "BertPreTokenizer"];

/** Between a letter or digit and a space before a letter. */
const BORDER = /(?<=[\p{L}\p{N}])(?=[ ▁]\p{L})/gu;

/**
 * Makes the function that cuts long texts between words, so that memory stays in proportion to a part. Texts stay whole
 * where their ids could be others then.
 *
 * @param model The model
 * @param pre The description of the pre-tokenizer; null for none
 * @returns From a text to its parts
 */
export function stretches(
  { vocabulary, byWord }: WordModel,
  pre: Fields | null,
): (text: string) => readonly string[] {
  const kinds = kindsOf(pre), whole = (text: string): readonly string[] => [text];
  if (!kinds.every((kind) => SPLITTERS.includes(kind) || AT_SPACE.includes(kind))) return whole;
  if (byWord && !kinds.some((kind) => AT_SPACE.includes(kind))) return whole;
  for (const token of vocabulary.keys()) if (/[^ ▁Ġ][ ▁Ġ]/u.test(token)) return whole;
  const mark = kinds.includes("ByteLevel") ? "Ġ" : kinds.includes("Metaspace") ? "▁" : null;
  return (text) => {
    const parts: string[] = [];
    let start = 0;
    while (text.length - start > LONG) {
      const end = borderAfter(text, start + LONG / 2);
      // Unknown characters side by side may be one token.
      if (end < 0 || !(byWord || vocabulary.has(mark ?? text[end]))) break;
      parts.push(text.slice(start, end));
      start = end;
    }
    parts.push(text.slice(start));
    return parts;
  };
}

function kindsOf(pre: Fields | null): readonly string[] {
  if (pre === null) return [];
  const kind = pre.text("type");
  return kind === "Sequence" ? pre.objects("pretokenizers").flatMap(kindsOf) : [kind];
}

function borderAfter(text: string, from: number): number {
  const border = new RegExp(BORDER);
  border.lastIndex = from;
  return border.exec(text)?.index ?? -1;
}
