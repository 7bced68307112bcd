/**
 * Patterns of `tokenizer.json`, a text or a regular expression of Oniguruma, as regular expressions of JavaScript.
 *
 * @module
 */

import { SplitPreTokenizer } from "@huggingface/tokenizers";
import type { Fields } from "./fields.ts";
import { slowReason } from "./pattern_check.ts";

/** White space as Rust sees it: U+0085 is one, U+FEFF is none. */
export const SPACE = "\\p{White_Space}";

/** Punctuation as BERT sees it: that of Unicode and all of ASCII that is no letter or digit. */
export const PUNCTUATION = "\\p{P}!-\\/:-@\\[-`\\{-~";

/**
 * The expressions of well-known tokenizers. They are not held to the rules for others.
 *
 * Source: `tokenizer.json` of the models named.
 */
const KNOWN: ReadonlySet<string> = new Set([
  // GPT-2
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
  // Llama 3, and cl100k
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  // Qwen 2
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  // o200k
  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  // DeepSeek V3
  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
]);

/** An expression that matches a text, with the flags `gu`. */
export function literal(text: string): RegExp {
  return new RegExp(text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "gu");
}

/**
 * Compiles the `pattern` of a part.
 *
 * @param fields The part
 * @returns The expression, with the flags `gu`
 * @throws {DataError} When there is none, it is not supported, or it may take more than linear time
 */
export function compilePattern(fields: Fields): RegExp {
  const pattern = fields.object("pattern");
  const text = pattern?.json.String, source = pattern?.json.Regex;
  if (typeof text === "string" && text !== "") return literal(text);
  if (typeof source !== "string" || source === "") {
    throw fields.error("pattern", `{ "String" } or { "Regex" } with a text`, pattern?.json);
  }
  const known = KNOWN.has(source);
  if (!known && source.length > 4096) {
    throw fields.error("pattern", "an expression of at most 4096 characters", source);
  }
  let compiled: RegExp;
  try {
    compiled = new SplitPreTokenizer({
      type: "Split",
      pattern: { Regex: source },
      behavior: "Isolated",
      invert: false,
    })
      .pattern!;
  } catch (error) {
    throw fields.error("pattern", `an expression that is supported (${(error as Error).message})`, source);
  }
  const reason = known ? null : slowReason(compiled.source);
  if (reason !== null) {
    throw fields.error("pattern", `an expression of linear time, so it may not ${reason}`, source);
  }
  return compiled;
}
