/**
 * Models of `tokenizer.json`: how a word becomes ids. Their data is checked first.
 *
 * @module
 */

import { bpeEncoder } from "./bpe_encoder.ts";
import { type Fields, isWhole } from "./fields.ts";
import { unigramEncoder } from "./unigram.ts";

/** Entries that a vocabulary may have; the largest published ones have about 260,000. */
export const MOST_ENTRIES = 2 ** 21;

/** Every word is compared with pieces of a unigram model from each of its characters. */
const MOST_MERGES = 2 ** 22, MOST_TOKEN = 4096, MOST_PIECE = 256;

/** A model: its vocabulary, and from a word to ids. */
export interface WordModel {
  readonly vocabulary: ReadonlyMap<string, number>;
  /** A word that it does not know becomes one token, however long. */
  readonly byWord: boolean;
  /** Ids of a word. */
  readonly encode: (word: string) => readonly number[];
}

/**
 * Builds the model of a tokenizer.
 *
 * @param fields Its description
 * @returns The model
 * @throws {DataError} When it is of an unknown kind, too large, or its vocabulary and merges do not fit together
 */
export function modelOf(fields: Fields): WordModel {
  switch (fields.word("type", ["BPE", "WordPiece", "Unigram", "WordLevel"], kindOf(fields))) {
    case "BPE":
      return bpe(fields);
    case "WordPiece":
      return wordPiece(fields);
    case "Unigram":
      return unigram(fields);
    case "WordLevel": {
      const vocabulary = vocabularyOf(fields), unknown = unknownOf(fields, vocabulary, "<unk>");
      return { vocabulary, byWord: true, encode: (word) => [vocabulary.get(word) ?? unknown ?? []].flat() };
    }
  }
}

/** Older files name no kind. */
function kindOf({ json }: Fields): "BPE" | "Unigram" | "WordPiece" {
  if (Array.isArray(json.vocab)) return "Unigram";
  return json.merges !== undefined ? "BPE" : "WordPiece";
}

function vocabularyOf(fields: Fields): Map<string, number> {
  const entries = Object.entries(fields.object("vocab")?.json ?? {});
  if (entries.length === 0 || entries.length > MOST_ENTRIES) {
    throw fields.error("vocab", `a record of 1 to ${MOST_ENTRIES} entries`, entries.length);
  }
  const seen = new Set<number>();
  for (const [token, id] of entries) {
    if (!isWhole(id, MOST_ENTRIES - 1)) {
      throw fields.error(
        `vocab["${token.slice(0, 40)}"]`,
        `a whole number from 0 to ${MOST_ENTRIES - 1}`,
        id,
      );
    }
    if (seen.has(id)) throw fields.error(`vocab["${token.slice(0, 40)}"]`, "an id of its own", id);
    if (token.length > MOST_TOKEN) {
      throw fields.error("vocab", `tokens of at most ${MOST_TOKEN} characters`, token);
    }
    seen.add(id);
  }
  return new Map(entries as [string, number][]);
}

function unknownOf(
  fields: Fields,
  vocabulary: ReadonlyMap<string, number>,
  name?: string,
): number | undefined {
  const token = (fields.json.unk_token ?? null) === null ? name : fields.text("unk_token");
  if (token === undefined) return undefined;
  const id = vocabulary.get(token);
  if (id === undefined && (fields.json.unk_token ?? null) !== null) {
    throw fields.error("unk_token", "a token of the vocabulary", token);
  }
  return id;
}

function bpe(fields: Fields): WordModel {
  const vocabulary = vocabularyOf(fields), unknown = unknownOf(fields, vocabulary);
  const merges = fields.list("merges", MOST_MERGES);
  const prefix = fields.text("continuing_subword_prefix", "");
  if (prefix !== "") throw fields.error("continuing_subword_prefix", "empty or null", prefix);
  if ((fields.json.dropout ?? 0) !== 0) throw fields.error("dropout", "null or 0", fields.json.dropout);
  const pairs = merges.map((merge): [string, string] => {
    const pair = typeof merge === "string" ? merge.split(" ") : merge;
    if (
      !Array.isArray(pair) || pair.length !== 2 ||
      pair.some((part) => typeof part !== "string" || part === "")
    ) {
      throw fields.error("merges", "a list of pairs of tokens", merge);
    }
    if (![pair[0], pair[1], pair[0] + pair[1]].every((part) => vocabulary.has(part))) {
      throw fields.error("merges", "pairs of tokens of the vocabulary that make another", merge);
    }
    return pair as [string, string];
  });
  const encode = bpeEncoder({
    vocabulary,
    merges: pairs,
    unknown,
    fuseUnknown: fields.flag("fuse_unk", false),
    byteFallback: fields.flag("byte_fallback", false),
    ignoreMerges: fields.flag("ignore_merges", false),
    suffix: fields.text("end_of_word_suffix", ""),
  });
  return { vocabulary, byWord: false, encode };
}

function wordPiece(fields: Fields): WordModel {
  const vocabulary = vocabularyOf(fields), unk = fields.text("unk_token", "[UNK]");
  const unknown = vocabulary.get(unk);
  if (unknown === undefined) throw fields.error("unk_token", "a token of the vocabulary", unk);
  const prefix = fields.text("continuing_subword_prefix", "##");
  const most = fields.whole("max_input_chars_per_word", { most: 1000, fallback: 100 });
  return {
    vocabulary,
    byWord: true,
    encode: (word) => piecesOf(word, { vocabulary, prefix, most }) ?? [unknown],
  };
}

/** The longest tokens from the left; null where there is none or the word has too many characters. */
function piecesOf(
  word: string,
  { vocabulary, prefix, most }: {
    readonly vocabulary: ReadonlyMap<string, number>;
    readonly prefix: string;
    readonly most: number;
  },
): readonly number[] | null {
  // A character has two units at most.
  const characters = word.length > 2 * most ? null : [...word], ids: number[] = [];
  if (characters === null || characters.length > most) return null;
  for (let start = 0; start < characters.length;) {
    let end = characters.length, id: number | undefined;
    for (; end > start; end--) {
      id = vocabulary.get((start > 0 ? prefix : "") + characters.slice(start, end).join(""));
      if (id !== undefined) break;
    }
    if (id === undefined) return null;
    ids.push(id);
    start = end;
  }
  return ids;
}

function unigram(fields: Fields): WordModel {
  const entries = fields.list("vocab", MOST_ENTRIES);
  if (entries.length === 0) throw fields.error("vocab", "a list that is not empty", entries);
  const vocabulary = new Map<string, number>();
  entries.forEach((entry, id) => {
    const [token, score] = Array.isArray(entry) && entry.length === 2 ? entry : [];
    if (typeof token !== "string" || token.length > MOST_PIECE || !Number.isFinite(score)) {
      throw fields.error(`vocab[${id}]`, `a token of at most ${MOST_PIECE} characters and its score`, entry);
    }
    if (vocabulary.has(token)) throw fields.error(`vocab[${id}]`, "a token of its own", token);
    vocabulary.set(token, id);
  });
  const unknown = fields.whole("unk_id", { most: entries.length - 1 });
  const bytes = fields.flag("byte_fallback", false)
    ? Array.from({ length: 256 }, (_, byte) => byteId(fields, { vocabulary, byte }))
    : null;
  const scored = entries as readonly (readonly [string, number])[];
  return { vocabulary, byWord: false, encode: unigramEncoder({ entries: scored, unknown, bytes }) };
}

function byteId(
  fields: Fields,
  { vocabulary, byte }: { readonly vocabulary: ReadonlyMap<string, number>; readonly byte: number },
): number {
  const token = `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`, id = vocabulary.get(token);
  if (id === undefined) {
    throw fields.error("vocab", `a list with "${token}", as byte_fallback is true`, null);
  }
  return id;
}
