/**
 * Regular expressions of Oniguruma, as `tokenizer.json` has them, read and written as those of JavaScript.
 *
 * Only what is known to mean the same is taken. Lines end at a line feed, `\s`, `\d`, `\w` and `.` are those of Unicode,
 * possessive quantifiers and atomic groups are written as a lookahead with a reference to what it found.
 *
 * Source: Oniguruma, doc/RE (syntax of Ruby).
 *
 * @module
 */

import {
  type Cursor,
  ExpressionError,
  readClass,
  readEscape,
  readLiteral,
  WORD,
} from "./expression_class.ts";

/** A part of an expression. `source` is its text in JavaScript with the flag `v`. */
export type Part =
  /** Matches one character. */
  | { readonly kind: "character"; readonly source: string }
  /** Matches no character: an anchor, or a lookaround with alternatives. */
  | { readonly kind: "assertion"; readonly source: string; readonly alternatives: readonly Sequence[] }
  /** Matches one of its alternatives. */
  | { readonly kind: "group"; readonly source: string; readonly alternatives: readonly Sequence[] }
  /** Matches another part several times. */
  | {
    readonly kind: "repeat";
    readonly source: string;
    readonly part: Part;
    readonly least: number;
    readonly most: number;
  };

/** Parts one after the other. */
export type Sequence = readonly Part[];

const MOST_DEPTH = 32;

const ANCHORS: Readonly<Record<string, string>> = {
  "^": "(?:^|(?<=\\n)(?!$))",
  "$": "(?=\\n|$)",
  "\\A": "^",
  "\\z": "$",
  "\\Z": "(?=\\n?$)",
  "\\b": "(?:(?<=W)(?!W)|(?<!W)(?=W))",
  "\\B": "(?:(?<=W)(?=W)|(?<!W)(?!W))",
};

/**
 * Reads an expression.
 *
 * @param text The expression, in Oniguruma's syntax
 * @returns Its alternatives
 * @throws {ExpressionError} When it has parts that are not supported
 */
export function readExpression(text: string): readonly Sequence[] {
  const cursor: Cursor = { text, at: 0, anyCase: false, depth: 0, behind: false, atoms: 0 };
  const alternatives = readAlternatives(cursor);
  if (cursor.at < text.length) throw new ExpressionError('close a group that is not open with ")"');
  return alternatives;
}

/** The text of alternatives in JavaScript. */
export function sourceOf(alternatives: readonly Sequence[]): string {
  return alternatives.map((parts) => parts.map(({ source }) => source).join("")).join("|");
}

function readAlternatives(cursor: Cursor): Sequence[] {
  const alternatives: Part[][] = [[]];
  while (cursor.at < cursor.text.length && cursor.text[cursor.at] !== ")") {
    if (cursor.text[cursor.at] === "|") {
      cursor.at++;
      alternatives.push([]);
    } else alternatives.at(-1)!.push(readRepeats(cursor, readPart(cursor)));
  }
  return alternatives;
}

function readPart(cursor: Cursor): Part {
  const { text, at } = cursor, two = text.slice(at, at + 2), one = text[at];
  for (const name of [two, one]) {
    if (!Object.hasOwn(ANCHORS, name)) continue;
    cursor.at += name.length;
    const source = ANCHORS[name].replaceAll("W", () => WORD);
    return { kind: "assertion", source, alternatives: [] };
  }
  if (one === "(") return readGroup(cursor);
  if (one === "[") return { kind: "character", source: readClass(cursor) };
  if (one === "\\") return { kind: "character", source: readEscape(cursor) };
  if (one === ".") {
    cursor.at++;
    return { kind: "character", source: "[^\\n]" };
  }
  if ("*+?".includes(one)) throw new ExpressionError(`repeat nothing with "${one}"`);
  return { kind: "character", source: readLiteral(cursor) };
}

function readGroup(cursor: Cursor): Part {
  const head = /^\((?:\?(?:[:=!>]|<[=!]|i:))?(?!\?)/.exec(cursor.text.slice(cursor.at, cursor.at + 5))?.[0];
  if (head === undefined) {
    throw new ExpressionError(`have a group such as "${cursor.text.slice(cursor.at, cursor.at + 6)}"`);
  }
  if (cursor.depth >= MOST_DEPTH) throw new ExpressionError(`nest more than ${MOST_DEPTH} groups`);
  const before = { ...cursor }, lookbehind = head.startsWith("(?<");
  cursor.at += head.length;
  cursor.depth++;
  cursor.anyCase ||= head === "(?i:";
  cursor.behind ||= lookbehind;
  const alternatives = readAlternatives(cursor);
  if (cursor.text[cursor.at] !== ")") throw new ExpressionError("leave a group open");
  cursor.at++;
  Object.assign(cursor, { depth: before.depth, anyCase: before.anyCase, behind: before.behind });
  const inner = sourceOf(alternatives);
  if (head === "(?>") return { kind: "group", source: atomic(cursor, inner), alternatives };
  if (!/[=!]$/.test(head)) return { kind: "group", source: `(?:${inner})`, alternatives };
  if (lookbehind && alternatives.flat().some(({ kind }) => kind !== "character")) {
    throw new ExpressionError("repeat or group inside a lookbehind");
  }
  return { kind: "assertion", source: `${head}${inner})`, alternatives: lookbehind ? [] : alternatives };
}

function readRepeats(cursor: Cursor, part: Part): Part {
  const found = /^(?:([*+?])|\{(\d{1,9})\}|\{(\d{0,9}),(\d{0,9})\})/.exec(
    cursor.text.slice(cursor.at, cursor.at + 24),
  );
  if (found === null || found[0] === "{,}") return part;
  cursor.at += found[0].length;
  const [whole, sign, exact, low, high] = found, next = cursor.text[cursor.at];
  const least = sign !== undefined ? Number(sign === "+") : Number(exact ?? low);
  const most = sign === "?" ? 1 : sign !== undefined ? Infinity : Number((exact ?? high) || Infinity);
  if (part.kind === "assertion") throw new ExpressionError("repeat an assertion");
  if (least > most) throw new ExpressionError(`repeat from ${least} to ${most} times`);
  const lazy = next === "?" && exact === undefined, possessive = next === "+" && sign !== undefined;
  if (lazy || possessive) cursor.at++;
  if (/[*+?]/.test(cursor.text[cursor.at] ?? "") || /^\{\d*,?\d*\}/.test(cursor.text.slice(cursor.at))) {
    throw new ExpressionError("put one quantifier after another");
  }
  const quantifier = whole.replace("{,", "{0,"), greedy = part.source + quantifier;
  const source = lazy ? `${greedy}?` : possessive ? atomic(cursor, greedy) : greedy;
  return { kind: "repeat", source, part, least, most };
}

/** An expression that does not give back what it matched. */
function atomic(cursor: Cursor, source: string): string {
  if (cursor.behind) throw new ExpressionError("have an atomic part inside a lookbehind");
  const name = `atom${cursor.atoms++}`;
  return `(?:(?=(?<${name}>${source}))\\k<${name}>)`;
}
