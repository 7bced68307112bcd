/**
 * Patterns of `tokenizer.json`: a text, or a regular expression of Oniguruma.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import { readExpression, sourceOf } from "./expression.ts";
import { ExpressionError } from "./expression_class.ts";
import type { Fields } from "./fields.ts";
import { slowRuns } from "./pattern_check.ts";

/** White space as Rust sees it: U+0085 is one, U+FEFF is none. */
export const SPACE = "\\p{White_Space}";

/** Punctuation as BERT sees it: that of Unicode and all of ASCII that is no letter or digit. */
export const PUNCTUATION = "\\p{P}!-\\/:-@\\[-`\\{-~";

/** Finds the matches of a pattern in a text, one after the other. */
export type Pattern = (text: string) => Iterable<RegExpExecArray>;

/** Characters of a run from which a start again at each of them takes too long. */
const MOST_RUN = 1024;

const MOST_SOURCE = 4096;

/**
 * Expressions that take linear time for reasons that the check does not see: what one alternative begins, another takes.
 *
 * Source: `tokenizer.json` of the models named.
 */
const KNOWN: ReadonlySet<string> = new Set([
  // GPT-4o, gpt-oss, Llama 4
  String
    .raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  // Mistral's Tekken
  String
    .raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
]);

/**
 * Makes the pattern that matches a text as it is.
 *
 * @param text The text, not empty
 * @returns The pattern
 */
export function literal(text: string): Pattern {
  const expression = new RegExp(text.replace(/[\\^$.*+?()[\]{}|\/]/g, "\\$&"), "gu");
  return (whole) => whole.matchAll(expression);
}

/**
 * Makes the pattern of a part, from its `pattern`.
 *
 * @param fields The part
 * @returns The pattern; it throws an `InputError` for a text that would take it quadratic time
 * @throws {DataError} When there is none, it is not supported, or it may take more than linear time from one start
 */
export function patternOf(fields: Fields): Pattern {
  const given = fields.object("pattern");
  const text = given?.json.String, source = given?.json.Regex;
  if (typeof text === "string" && text !== "") return literal(text);
  if (typeof source !== "string" || source === "" || source.length > MOST_SOURCE) {
    throw fields.error(
      "pattern",
      `{ "String" } or { "Regex" } with a text of 1 to ${MOST_SOURCE} characters`,
      source ?? text,
    );
  }
  try {
    const alternatives = readExpression(source), expression = new RegExp(sourceOf(alternatives), "gv");
    const runs = KNOWN.has(source) ? [] : slowRuns(alternatives);
    return bounded((whole) => matches(whole, expression), runs.map((run) => new RegExp(`${run}+`, "gv")));
  } catch (error) {
    if (!(error instanceof ExpressionError)) throw error;
    throw fields.error("pattern", `an expression of linear time: it may not ${error.message}`, source);
  }
}

/**
 * Replaces the matches of a pattern.
 *
 * @param text The text
 * @param options `pattern`; `content`: what stands in place of each match
 * @returns The new text
 */
export function replaced(
  text: string,
  { pattern, content }: { readonly pattern: Pattern; readonly content: string },
): string {
  const parts: string[] = [];
  let at = 0;
  for (const { index, 0: { length } } of pattern(text)) {
    parts.push(text.slice(at, index), content);
    at = index + length;
  }
  parts.push(text.slice(at));
  return parts.join("");
}

/** Matches, but for empty ones between the halves of a character. */
function* matches(text: string, expression: RegExp): Generator<RegExpExecArray> {
  for (const match of text.matchAll(expression)) {
    const { index, 0: { length } } = match;
    if (length > 0 || index === 0 || text.codePointAt(index - 1)! < 0x10000) yield match;
  }
}

function bounded(pattern: Pattern, runs: readonly RegExp[]): Pattern {
  return (text) => {
    if (text.length > MOST_RUN) { for (const run of runs) checkRun(text, run); }
    return pattern(text);
  };
}

function checkRun(text: string, run: RegExp): void {
  for (const { index, 0: { length } } of text.matchAll(run)) {
    if (length <= MOST_RUN) continue;
    throw new InputError(
      `Cannot encode a text with ${length} characters in a row that an expression of the tokenizer may read again ` +
        `from each: "${text.slice(index, index + 20)}…"; break the text into parts of at most ${MOST_RUN}`,
    );
  }
}
