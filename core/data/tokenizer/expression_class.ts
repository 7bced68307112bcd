/**
 * Characters, escapes and classes of an expression of Oniguruma.
 *
 * @module
 */

/** Why an expression is not taken, in words that complete "it may not". */
export class ExpressionError extends Error {}

/** Where a reader stands in an expression, and what holds there. */
export interface Cursor {
  readonly text: string;
  at: number;
  /** Letters match in upper and lower case. */
  anyCase: boolean;
  /** Open groups. */
  depth: number;
  /** It stands in a lookbehind. */
  behind: boolean;
  /** Atomic parts so far. */
  atoms: number;
}

const MOST_DEPTH = 8;

/** Characters of words outside a class, where Oniguruma counts six more of Latin-1. */
export const WORD = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\u00b2\u00b3\u00b9\u00bc-\u00be]";

/** Sets of characters by the letter of their escape, within a class. */
const SETS: Readonly<Record<string, string>> = {
  d: "\\p{Nd}",
  D: "\\P{Nd}",
  h: "[0-9A-Fa-f]",
  H: "[^0-9A-Fa-f]",
  s: "\\p{White_Space}",
  S: "\\P{White_Space}",
  w: "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]",
  W: "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]",
};

const CONTROLS: Readonly<Record<string, string>> = {
  a: "\x07",
  e: "\x1b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};

/** Names of POSIX, as brackets and as properties. */
const NAMES: Readonly<Record<string, string>> = {
  alpha: "\\p{Alphabetic}",
  alnum: "[\\p{Alphabetic}\\p{Nd}]",
  digit: "\\p{Nd}",
  lower: "\\p{Lowercase}",
  space: "\\p{White_Space}",
  upper: "\\p{Uppercase}",
  word: "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]",
};

/** Reads an escape outside a class that stands for one character or a set. */
export function readEscape(cursor: Cursor): string {
  const escape = cursor.text.slice(cursor.at, cursor.at + 2);
  if (/^\\[wW]$/.test(escape)) {
    cursor.at += 2;
    return escape === "\\w" ? WORD : `[^${WORD}]`;
  }
  const member = readMember(cursor);
  return member.set ?? folded(cursor, member.character);
}

/** Reads a character that stands for itself outside a class. */
export function readLiteral(cursor: Cursor): string {
  return folded(cursor, next(cursor));
}

/** Reads a class in brackets. */
export function readClass(cursor: Cursor, depth = 0): string {
  if (depth >= MOST_DEPTH) throw new ExpressionError(`nest more than ${MOST_DEPTH} classes`);
  const posix = /^\[:(\^?)([a-z]+):\]/.exec(cursor.text.slice(cursor.at, cursor.at + 16));
  if (posix !== null && depth > 0) {
    const [whole, negated, name] = posix;
    if (!Object.hasOwn(NAMES, name)) throw new ExpressionError(`have the class "${whole}"`);
    cursor.at += whole.length;
    return negated ? `[^${NAMES[name]}]` : NAMES[name];
  }
  cursor.at++;
  const negated = cursor.text[cursor.at] === "^";
  if (negated) cursor.at++;
  const operands: string[] = [];
  let members = "";
  for (let first = true;; first = false) {
    const rest = cursor.text.slice(cursor.at, cursor.at + 2);
    if (rest === "") throw new ExpressionError("leave a class open");
    if (cursor.anyCase && /^(?:&&|\[)/.test(rest)) {
      throw new ExpressionError("have a class in a class in a part for upper and lower case");
    }
    if (rest === "&&") {
      operands.push(`[${members}]`);
      members = "";
      cursor.at += 2;
    } else if (rest[0] === "]" && !first) {
      cursor.at++;
      operands.push(`[${members}]`);
      return operands.length === 1 && !negated
        ? operands[0]
        : `[${negated ? "^" : ""}${operands.join("&&")}]`;
    } else if (rest[0] === "[") members += readClass(cursor, depth + 1);
    else members += readRange(cursor);
  }
}

/** Sets that have each of their letters in both cases. */
const CASELESS = /^\\[pP]\{(?:Alphabetic|White_Space|Nd|[LMNPSZ])\}$/;

/** Reads a member of a class: a character, a range of two, or a set. */
function readRange(cursor: Cursor): string {
  const low = readMember(cursor);
  if (low.set !== undefined) {
    if (cursor.anyCase && !CASELESS.test(low.set)) {
      throw new ExpressionError(`have "${low.set}" in a part for upper and lower case`);
    }
    if (/^-[^\]]/.test(cursor.text.slice(cursor.at, cursor.at + 2))) {
      throw new ExpressionError("have a range that begins with a set");
    }
    return low.set;
  }
  const ahead = cursor.text.slice(cursor.at, cursor.at + 3);
  if (ahead[0] !== "-" || ahead[1] === "]" || ahead.slice(1) === "&&") return folded(cursor, low.character);
  cursor.at++;
  const high = cursor.text[cursor.at] === "[" ? { set: "[" } : readMember(cursor);
  const from = low.character.codePointAt(0)!, to = high.character?.codePointAt(0) ?? -1;
  if (to < from) throw new ExpressionError("have a range that ends before it begins, or with a set");
  const range = `${escaped(low.character)}-${escaped(high.character!)}`;
  if (!cursor.anyCase) return range;
  if (to - from > 1024) throw new ExpressionError("have a wide range in a part for upper and lower case");
  const characters = Array.from({ length: to - from + 1 }, (_, i) => String.fromCodePoint(from + i));
  return characters.map((character) => folded(cursor, character)).join("");
}

type Member =
  | { readonly set: string; readonly character?: undefined }
  | { readonly set?: undefined; readonly character: string };

/** Reads one character, or an escape that stands for a set. */
function readMember(cursor: Cursor): Member {
  const { text, at } = cursor;
  if (text[at] !== "\\") return { character: next(cursor) };
  const property = /^\\([pP])\{(\^?)([\w ]{1,64})\}/.exec(text.slice(at, at + 80));
  if (property !== null) {
    cursor.at += property[0].length;
    const [, letter, not, name] = property;
    return { set: propertySet(name, { negated: (letter === "P") !== (not === "^") }) };
  }
  const code = /^\\(?:x\{([0-9A-Fa-f]{1,6})\}|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4}))/.exec(
    text.slice(at, at + 10),
  );
  if (code !== null) {
    const value = parseInt(code[1] ?? code[2] ?? code[3], 16);
    if (value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) {
      throw new ExpressionError(`have "${code[0]}", which is no character`);
    }
    cursor.at += code[0].length;
    return { character: String.fromCodePoint(value) };
  }
  cursor.at++;
  const letter = next(cursor);
  if (Object.hasOwn(SETS, letter)) return { set: SETS[letter] };
  if (Object.hasOwn(CONTROLS, letter)) return { character: CONTROLS[letter] };
  if (/[0-9A-Za-z]/.test(letter)) throw new ExpressionError(`have the escape "\\${letter}"`);
  return { character: letter };
}

function propertySet(name: string, { negated }: { readonly negated: boolean }): string {
  const posix = name.toLowerCase();
  if (Object.hasOwn(NAMES, posix)) {
    const set = posix === "word" ? WORD : NAMES[posix];
    return negated ? `[^${set}]` : set;
  }
  for (const property of [name === "Punct" ? "P" : name, `Script=${name}`]) {
    const set = `\\${negated ? "P" : "p"}{${property}}`;
    try {
      new RegExp(set, "v");
      return set;
    } catch {
      // The name may be that of a script.
    }
  }
  throw new ExpressionError(`have the property "${name}"`);
}

function next(cursor: Cursor): string {
  const code = cursor.text.codePointAt(cursor.at);
  if (code === undefined) throw new ExpressionError('end with "\\"');
  const character = String.fromCodePoint(code);
  cursor.at += character.length;
  return character;
}

/** A character, with its other cases where letters match in both. */
function folded({ anyCase }: Cursor, character: string): string {
  if (!anyCase) return escaped(character);
  const cases = [character, character.toLowerCase(), character.toUpperCase()];
  const more = cases.flatMap((one) => FOLDS[one] ?? []);
  const single = [...new Set([...cases, ...more])].filter((one) => [...one].length === 1).map(escaped);
  return single.length === 1 ? single[0] : `[${single.join("")}]`;
}

/** Third cases of letters. */
const FOLDS: Readonly<Record<string, string>> = { s: "\u017f", k: "\u212a", å: "\u212b", σ: "ς" };

const escaped = (character: string): string => `\\u{${character.codePointAt(0)!.toString(16)}}`;
