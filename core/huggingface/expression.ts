/**
 * Regular expressions of adapters, as Python's `re` reads them. They come with files of strangers, so that a match has a
 * bound: the engine of JavaScript has none.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { shorten } from "../json_rules.ts";

/** Characters of an expression, groups inside groups, and steps of a match. */
const LONGEST = 20_000, DEEPEST = 50, STEPS = 100_000;

/** Tries a match from a position; `next` continues after it. */
type Match = (at: number, next: (at: number) => boolean) => boolean;

/** The text that is matched, and the steps that are left. */
interface Subject {
  text: string;
  steps: number;
}

/**
 * Compiles a regular expression: literals, classes, groups, alternatives, counts, looks ahead, and both ends.
 *
 * @param source The expression
 * @returns Whether all of a text matches it, as `re.fullmatch` says. It throws an `InputError` when a match takes too many
 * steps
 * @throws {InputError} When the expression is none, or uses what is not read: references, looks behind, flags
 */
export function expression(source: string): (text: string) => boolean {
  const subject: Subject = { text: "", steps: 0 };
  if (source.length > LONGEST) throw refusal(source, `it may have ${LONGEST} characters`, "it is longer");
  const { match, at } = alternatives({ source, subject }, { at: 0, depth: 0 });
  if (at < source.length) throw refusal(source, "brackets must be pairs", `")" at ${at} closes none`);
  return (text) => {
    Object.assign(subject, { text, steps: STEPS });
    return match(0, (end) => end === text.length);
  };
}

function refusal(source: string, rule: string, seen: string): Error {
  return new InputError(
    `Cannot match by the expression ${JSON.stringify(shorten(source))} as ${rule}: ${seen}`,
  );
}

interface Context {
  readonly source: string;
  readonly subject: Subject;
}

interface Place {
  readonly at: number;
  readonly depth: number;
}

/** A part that was read, and where it ends. */
interface Part {
  readonly match: Match;
  readonly at: number;
}

function alternatives(context: Context, { at, depth }: Place): Part {
  const { source } = context, branches: Match[] = [];
  if (depth > DEEPEST) throw refusal(source, `groups may nest ${DEEPEST} deep`, "they are deeper");
  for (;; at++) {
    const branch = sequence(context, { at, depth });
    branches.push(branch.match);
    at = branch.at;
    if (source[at] !== "|") break;
  }
  return { at, match: (from, next) => branches.some((branch) => branch(from, next)) };
}

function sequence(context: Context, { at, depth }: Place): Part {
  const parts: Match[] = [];
  while (at < context.source.length && !"|)".includes(context.source[at])) {
    const part = counted(context, atom(context, { at, depth }));
    parts.push(part.match);
    at = part.at;
  }
  const run = (i: number, from: number, next: (at: number) => boolean): boolean =>
    i === parts.length ? next(from) : parts[i](from, (to) => run(i + 1, to, next));
  return { at, match: (from, next) => run(0, from, next) };
}

/** A part with the count that follows it. */
function counted({ source, subject }: Context, { match, at }: Part): Part {
  const found = /^(?:([*+?])|\{(\d*)(,?)(\d*)\})/.exec(source.slice(at, at + 24));
  if (found === null || found[0] === "{}" || found[0] === "{,}") return { match, at };
  const [text, sign, low, comma, high] = found;
  const least = sign === undefined ? Number(low) : sign === "+" ? 1 : 0;
  const open = sign === undefined ? comma !== "" && high === "" : sign !== "?";
  const most = open ? Infinity : sign === "?" ? 1 : Number(comma === "" ? low : high);
  const after = at + text.length, lazy = source[after] === "?" ? 1 : 0;
  if (/[*+?]/.test(source[after + lazy] ?? "")) {
    throw refusal(source, "a count must follow what it counts", `that at ${after + lazy} follows a count`);
  }
  const run = (count: number, from: number, next: (at: number) => boolean): boolean => {
    if (subject.steps-- <= 0) throw refusal(source, `a match may take ${STEPS} steps`, "it takes more");
    // A repetition that moves nowhere would be repeated for ever.
    const again = (to: number): boolean => (to > from || count < least) && run(count + 1, to, next);
    return count < most && match(from, again) || count >= least && next(from);
  };
  return { at: after + lazy, match: (from, next) => run(0, from, next) };
}

const ENDS: Readonly<Record<string, (text: string, at: number) => boolean>> = {
  "^": (_, at) => at === 0,
  "$": (text, at) => at === text.length,
  "\\A": (_, at) => at === 0,
  "\\Z": (text, at) => at === text.length,
  "\\b": (text, at) => isWord(text[at - 1]) !== isWord(text[at]),
  "\\B": (text, at) => isWord(text[at - 1]) === isWord(text[at]),
};

const SETS: Readonly<Record<string, (character: string) => boolean>> = {
  d: (character) => /\d/.test(character),
  w: (character) => isWord(character),
  s: (character) => /\s/.test(character),
};

function isWord(character: string | undefined): boolean {
  return character !== undefined && /[\p{L}\p{N}_]/u.test(character);
}

function atom(context: Context, { at, depth }: Place): Part {
  const { source, subject } = context, head = source[at];
  const one = (holds: (character: string) => boolean, end: number): Part => ({
    at: end,
    match: (from, next) => from < subject.text.length && holds(subject.text[from]) && next(from + 1),
  });
  if (head === "(") return group(context, { at, depth });
  if (head === "[") return characterClass(source, at, one);
  if (head === ".") return one((character) => character !== "\n", at + 1);
  const end = head === "\\" ? source.slice(at, at + 2) : head;
  if (Object.hasOwn(ENDS, end)) {
    const holds = ENDS[end];
    return { at: at + end.length, match: (from, next) => holds(subject.text, from) && next(from) };
  }
  if (/[*+?]/.test(head)) {
    throw refusal(source, "a count must follow what it counts", `that at ${at} follows nothing`);
  }
  if (head !== "\\") return one((character) => character === head, at + 1);
  return one(escaped(source, at), at + 2);
}

/** The set of an escape, or the character itself. */
function escaped(source: string, at: number): (character: string) => boolean {
  const name = source[at + 1] ?? "", set = SETS[name.toLowerCase()];
  if (Object.hasOwn(SETS, name.toLowerCase())) return name === name.toLowerCase() ? set : (c) => !set(c);
  if (name === "" || /[\p{L}\d]/u.test(name)) {
    throw refusal(source, "escapes are \\d, \\w, \\s, \\b and signs", `"\\${name}" at ${at}`);
  }
  return (character) => character === name;
}

function group(context: Context, { at, depth }: Place): Part {
  const { source } = context;
  const opening = /^\((?:\?(?::|=|!|P<\w+>))?/.exec(source.slice(at, at + 100))![0];
  if (opening === "(" && source[at + 1] === "?") {
    throw refusal(
      source,
      "groups are (), (?:), (?P<name>), (?=) and (?!)",
      `"${source.slice(at, at + 3)}" at ${at}`,
    );
  }
  const inner = alternatives(context, { at: at + opening.length, depth: depth + 1 });
  if (source[inner.at] !== ")") throw refusal(source, "brackets must be pairs", `"(" at ${at} is not closed`);
  const ahead = opening === "(?=" || opening === "(?!";
  const match: Match = ahead
    ? (from, next) => inner.match(from, () => true) === (opening === "(?=") && next(from)
    : inner.match;
  return { match, at: inner.at + 1 };
}

function characterClass(
  source: string,
  start: number,
  one: (holds: (character: string) => boolean, end: number) => Part,
): Part {
  const negated = source[start + 1] === "^", first = start + (negated ? 2 : 1);
  const members: ((character: string) => boolean)[] = [];
  let at = first;
  for (; at === first || source[at] !== "]";) {
    if (at >= source.length) throw refusal(source, "brackets must be pairs", `"[" at ${start} is not closed`);
    const isEscape = source[at] === "\\",
      from = source[at + (isEscape ? 1 : 0)],
      end = at + (isEscape ? 2 : 1);
    const to = source[end + 1];
    if (source[end] === "-" && to !== undefined && to !== "]" && to !== "\\") {
      members.push((character) => from <= character && character <= to);
      at = end + 2;
      continue;
    }
    members.push(isEscape ? escaped(source, at) : (character) => character === from);
    at = end;
  }
  return one((character) => members.some((holds) => holds(character)) !== negated, at + 1);
}
