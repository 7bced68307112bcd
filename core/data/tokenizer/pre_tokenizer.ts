/**
 * Pre-tokenizers of `tokenizer.json`: how a text is cut into words before the model sees it.
 *
 * @module
 */

import { bytesAsCharacters } from "./byte_characters.ts";
import { type Fields, oneCharacter } from "./fields.ts";
import { checkGrowth } from "./growth.ts";
import { literal, type Pattern, patternOf, PUNCTUATION, SPACE } from "./pattern.ts";

/** Cuts a text into words. `first` says that it stands at the very beginning. */
export type PreTokenizer = (text: string, first: boolean) => readonly string[];

/**
 * Builds a pre-tokenizer.
 *
 * @param fields Its description; null for none
 * @returns The function
 * @throws {DataError} When it is of an unknown kind or has a bad value
 */
export function preTokenizerOf(fields: Fields | null): PreTokenizer {
  if (fields === null) return (text) => [text];
  const type = fields.word("type", Object.keys(KINDS));
  return KINDS[type](fields);
}

const BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"] as const;
type Behavior = typeof BEHAVIORS[number];

const GPT2 =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;
const WORDS =
  /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d\p{White_Space}]+/gu;

const KINDS: Readonly<Record<string, (fields: Fields) => PreTokenizer>> = {
  Sequence(fields) {
    const parts = fields.objects("pretokenizers").map(preTokenizerOf);
    return (text, first) =>
      parts.reduce<readonly string[]>((words, part) => {
        const cut = words.flatMap((word, i) => part(word, first && i === 0));
        checkGrowth(cut.reduce((n, { length }) => n + length, 0), text.length);
        return cut;
      }, [text]);
  },
  ByteLevel(fields) {
    const prefix = fields.flag("add_prefix_space", true), cut = fields.flag("use_regex", true);
    return (text) => {
      const whole = prefix && text !== "" && !text.startsWith(" ") ? ` ${text}` : text;
      const words = cut ? split(whole, { pattern: GPT2, behavior: "Isolated" }) : [whole];
      return words.map(bytesAsCharacters);
    };
  },
  Split(fields) {
    const pattern = patternOf(fields), behavior = fields.word("behavior", BEHAVIORS);
    const invert = fields.flag("invert", false);
    return (text) => split(text, { pattern, behavior, invert });
  },
  // Numbers as Unicode has them: also Ⅷ, ½ and ②.
  Digits(fields) {
    const pattern = fields.flag("individual_digits", false) ? /\p{N}/gu : /\p{N}+/gu;
    return (text) => split(text, { pattern, behavior: "Isolated" });
  },
  Punctuation(fields) {
    const pattern = new RegExp(`[${PUNCTUATION}]`, "gu");
    const behavior = fields.word("behavior", BEHAVIORS, "Isolated");
    return (text) => split(text, { pattern, behavior });
  },
  Whitespace: () => (text) => text.match(WORDS) ?? [],
  WhitespaceSplit: () => splitSpace,
  BertPreTokenizer() {
    const pattern = new RegExp(`[${PUNCTUATION}]`, "gu");
    return (text) => splitSpace(text).flatMap((word) => split(word, { pattern, behavior: "Isolated" }));
  },
  CharDelimiterSplit(fields) {
    const pattern = literal(oneCharacter(fields, "delimiter"));
    return (text) => split(text, { pattern, behavior: "Removed" });
  },
  Metaspace(fields) {
    const replacement = oneCharacter(fields, "replacement", "▁");
    const scheme = fields.word("prepend_scheme", ["always", "first", "never"], schemeOf(fields));
    const cut = fields.flag("split", true), pattern = literal(replacement);
    return (text, first) => {
      const prepend = scheme === "always" || (scheme === "first" && first);
      let whole = text.replaceAll(" ", () => replacement);
      if (prepend && !whole.startsWith(replacement)) whole = replacement + whole;
      return cut ? split(whole, { pattern, behavior: "MergedWithNext" }) : [whole];
    };
  },
};

/** Older files say `add_prefix_space` in place of `prepend_scheme`. */
function schemeOf(fields: Fields): "always" | "never" {
  return fields.flag("add_prefix_space", true) ? "always" : "never";
}

function splitSpace(text: string): readonly string[] {
  return split(text, { pattern: new RegExp(SPACE, "gu"), behavior: "Removed" });
}

interface SplitOptions {
  readonly pattern: RegExp | Pattern;
  readonly behavior: Behavior;
  readonly invert?: boolean;
}

function matches(text: string, pattern: RegExp | Pattern): Iterable<RegExpExecArray> {
  return typeof pattern === "function" ? pattern(text) : text.matchAll(pattern);
}

/** Cuts a text at matches; what becomes of a match is its behavior. */
function split(text: string, { pattern, behavior, invert = false }: SplitOptions): string[] {
  const pieces: { start: number; end: number; readonly match: boolean }[] = [];
  let at = 0;
  for (const { index, 0: { length } } of matches(text, pattern)) {
    if (index > at) pieces.push({ start: at, end: index, match: invert });
    if (length > 0) pieces.push({ start: index, end: index + length, match: !invert });
    at = index + length;
  }
  if (at < text.length) pieces.push({ start: at, end: text.length, match: invert });
  if (behavior === "MergedWithNext") pieces.reverse();
  const words: { start: number; end: number }[] = [];
  let previous = false;
  for (const { start, end, match } of pieces) {
    const last = words.at(-1);
    const joins = last !== undefined &&
      (behavior === "Contiguous" ? match === previous : behavior.startsWith("Merged") && match && !previous);
    previous = match;
    if (behavior === "Removed" && match) continue;
    if (!joins) words.push({ start, end });
    else [last.start, last.end] = [Math.min(last.start, start), Math.max(last.end, end)];
  }
  if (behavior === "MergedWithNext") words.reverse();
  return words.map(({ start, end }) => text.slice(start, end));
}
