/**
 * Trains a byte-level BPE tokenizer and describes it in the files of Hugging Face.
 *
 * Own code, as no kept npm package trains one: `@huggingface/tokenizers` does not, and `train` of the native `tokenizers`
 * takes no size of the vocabulary.
 *
 * Source: Sennrich, Haddow and Birch 2016, "Neural machine translation of rare words with subword units", algorithm 1;
 * the alphabet of bytes and the split into words are those of GPT-2.
 *
 * @module
 */

import { InputError } from "@firn/train";
import type { Corpus } from "@firn/train/data";

/** Ends every document. */
export const END_OF_TEXT = "<|endoftext|>";

/** Contents of a tokenizer's files, by file name. */
export interface TokenizerFiles {
  readonly "tokenizer.json": Readonly<Record<string, unknown>>;
  readonly "tokenizer_config.json": Readonly<Record<string, unknown>>;
}

const WORD = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** A visible character for each byte: itself where it is printable, else the next one from U+0100 on. */
const BYTE_CHARACTERS: readonly string[] = (() => {
  let next = 256;
  const printable = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
})();

/** Tokens before the first merge; ties between pairs go to the lower ids, so this order is part of the result. */
const ALPHABET: readonly string[] = [END_OF_TEXT, ...BYTE_CHARACTERS.toSorted()];

/** A distinct word: its tokens so far and how often it occurs. */
interface Word {
  tokens: number[];
  readonly count: number;
}

/** A pair of neighbours: how often it occurs, and the words that may hold it. */
interface Pair {
  count: number;
  readonly words: Set<Word>;
}

/**
 * Learns merges from text, the most frequent pair of neighbouring tokens first.
 *
 * @param corpus The text
 * @param options `vocabSize`: entries of the vocabulary, 257 or more; fewer come out when the text has no more pairs
 * @returns Contents of `tokenizer.json` and `tokenizer_config.json`
 * @throws {InputError} When the size is too small
 */
export async function trainBpe(
  corpus: Corpus,
  { vocabSize }: { readonly vocabSize: number },
): Promise<TokenizerFiles> {
  if (!(Number.isSafeInteger(vocabSize) && vocabSize >= ALPHABET.length && vocabSize <= 2 ** 24)) {
    const rule =
      `"vocabSize" must be a whole number from ${ALPHABET.length}, one entry a byte and the end, to 2^24`;
    throw new InputError(`Cannot train a tokenizer as ${rule}: got ${vocabSize}`);
  }
  const words = await countWords(corpus);
  const pairs = new Map<number, Pair>();
  for (const word of words) addPairs(pairs, word);
  const vocabulary = [...ALPHABET];
  const merges: string[] = [];
  while (vocabulary.length < vocabSize) {
    const best = mostFrequent(pairs);
    if (best === null) break;
    const [left, right] = [Math.floor(best / 2 ** 24), best % 2 ** 24];
    const { words: holders } = pairs.get(best)!;
    for (const word of holders) {
      removePairs(pairs, word);
      word.tokens = merge(word.tokens, { left, right, merged: vocabulary.length });
      addPairs(pairs, word);
    }
    merges.push(`${vocabulary[left]} ${vocabulary[right]}`);
    vocabulary.push(vocabulary[left] + vocabulary[right]);
  }
  return describe(vocabulary, merges);
}

/**
 * The files of a tokenizer as they lie in a model folder.
 *
 * @param files From {@link trainBpe}
 * @returns Their bytes, by name
 */
export function encodeFiles(files: TokenizerFiles): ReadonlyMap<string, Uint8Array> {
  const encoder = new TextEncoder();
  return new Map(
    Object.entries(files).map((
      [name, content],
    ) => [name, encoder.encode(`${JSON.stringify(content, null, 2)}\n`)]),
  );
}

async function countWords(corpus: Corpus): Promise<Word[]> {
  const counts = new Map<string, number>();
  for await (const { text } of corpus.pieces()) {
    for (const [word] of text.matchAll(WORD)) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const ids = new Map(ALPHABET.map((token, id) => [token, id]));
  const encoder = new TextEncoder();
  return Array.from(counts, ([word, count]) => ({
    tokens: Array.from(encoder.encode(word), (byte) => ids.get(BYTE_CHARACTERS[byte])!),
    count,
  }));
}

function addPairs(pairs: Map<number, Pair>, word: Word): void {
  for (let i = 1; i < word.tokens.length; i++) {
    const key = word.tokens[i - 1] * 2 ** 24 + word.tokens[i];
    const pair = pairs.get(key);
    if (pair === undefined) pairs.set(key, { count: word.count, words: new Set([word]) });
    else {
      pair.count += word.count;
      pair.words.add(word);
    }
  }
}

function removePairs(pairs: Map<number, Pair>, word: Word): void {
  for (let i = 1; i < word.tokens.length; i++) {
    const key = word.tokens[i - 1] * 2 ** 24 + word.tokens[i];
    const pair = pairs.get(key)!;
    pair.count -= word.count;
    pair.words.delete(word);
    if (pair.count === 0) pairs.delete(key);
  }
}

function mostFrequent(pairs: ReadonlyMap<number, Pair>): number | null {
  let best: number | null = null;
  let most = 0;
  for (const [key, { count }] of pairs) {
    if (count > most || (count === most && best !== null && key < best)) [best, most] = [key, count];
  }
  return best;
}

interface Merge {
  readonly left: number;
  readonly right: number;
  readonly merged: number;
}

function merge(tokens: readonly number[], { left, right, merged }: Merge): number[] {
  const result: number[] = [];
  for (let i = 0; i < tokens.length; i++) {
    const together = tokens[i] === left && tokens[i + 1] === right;
    result.push(together ? merged : tokens[i]);
    if (together) i++;
  }
  return result;
}

function describe(vocabulary: readonly string[], merges: readonly string[]): TokenizerFiles {
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  const end = { id: 0, content: END_OF_TEXT, single_word: false, lstrip: false, rstrip: false };
  return {
    "tokenizer.json": {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: [{ ...end, normalized: false, special: true }],
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: null,
      decoder: byteLevel,
      model: {
        type: "BPE",
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
        merges,
      },
    },
    "tokenizer_config.json": {
      tokenizer_class: "PreTrainedTokenizerFast",
      bos_token: END_OF_TEXT,
      eos_token: END_OF_TEXT,
      add_prefix_space: false,
      clean_up_tokenization_spaces: false,
    },
  };
}
