/**
 * The tokens of a GGUF file.
 *
 * @module
 */

/** Types of tokens. */
export const TOKEN = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** The tokens of a file. */
export interface Tokens {
  /** Texts, by id. */
  readonly texts: readonly string[];
  /** Types, by id. */
  readonly types: readonly number[];
}

/** The parts of `tokenizer.json` that differ between kinds of tokenizers. */
export interface TokenizerParts {
  readonly normalizer: unknown;
  readonly preTokenizer: unknown;
  readonly decoder: unknown;
  readonly model: unknown;
  /** A text begins with BOS where the file does not say whether it does. */
  readonly addBos: boolean;
}
