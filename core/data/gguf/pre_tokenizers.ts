/**
 * How texts are cut into words, by the names that llama.cpp has for it (`tokenizer.ggml.pre`), as parts of
 * `tokenizer.json`.
 *
 * Source: `llama-vocab.cpp` of llama.cpp, and `convert_hf_to_gguf.py`, which names published tokenizers.
 *
 * @module
 */

/** A part of `tokenizer.json`. */
type Part = Readonly<Record<string, unknown>>;

/** What a name stands for. */
export interface PreTokenizerRule {
  /** `pre_tokenizer`. */
  readonly preTokenizer: Part;
  /** `normalizer`. */
  readonly normalizer: Part | null;
  /** `ignore_merges` of the model: a word that is a token is that token. */
  readonly ignoreMerges: boolean;
  /** A text begins with BOS where the file does not say whether it does. */
  readonly addBos: boolean;
}

const byteLevel = (regex: boolean): Part => ({
  type: "ByteLevel",
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: regex,
});

const cut = (...expressions: readonly string[]): Part => ({
  type: "Sequence",
  pretokenizers: [
    ...expressions.map((Regex) => ({
      type: "Split",
      pattern: { Regex },
      behavior: "Isolated",
      invert: false,
    })),
    byteLevel(false),
  ],
});

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const REST = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const LLAMA3 = `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|${REST}`;
const QWEN2 = `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|${REST}`;

const plain = { normalizer: null, ignoreMerges: false, addBos: false };

const gpt2: PreTokenizerRule = { ...plain, preTokenizer: byteLevel(true) };
const digits: PreTokenizerRule = {
  ...plain,
  preTokenizer: {
    type: "Sequence",
    pretokenizers: [{ type: "Digits", individual_digits: true }, byteLevel(true)],
  },
};
const llama3: PreTokenizerRule = { ...plain, preTokenizer: cut(LLAMA3), ignoreMerges: true, addBos: true };
const qwen2: PreTokenizerRule = { ...plain, preTokenizer: cut(QWEN2), normalizer: { type: "NFC" } };

/** Rules by name. The first name of equal rules is the one that is written. */
export const PRE_TOKENIZERS: Readonly<Record<string, PreTokenizerRule>> = {
  smollm: digits,
  "gpt-2": gpt2,
  "llama-bpe": llama3,
  qwen2,
  default: {
    ...plain,
    preTokenizer: cut("[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"),
  },
  "deepseek-r1-qwen": qwen2,
  kormo: qwen2,
  llama3,
  "llama-v3": llama3,
  falcon3: llama3,
  "phi-2": gpt2,
  olmo: gpt2,
  mpt: gpt2,
  starcoder: digits,
  refact: digits,
  codeshell: digits,
};
