/**
 * Command line flags as a table: reading, checking and `--help` from one place.
 *
 * @module
 */

import { FirnError, InputError } from "@firn/train";
import { printError } from "./print.ts";
import { InterruptedError } from "./signals.ts";
import { noteWhy } from "./why_ended.ts";
import { parseArgs } from "@std/cli/parse-args";

/** One flag. */
export interface Flag<T> {
  /** What the value is called in the help; empty when the flag takes none. */
  readonly placeholder: string;
  readonly about: string;
  /** Value when the flag is absent. */
  readonly fallback: T;
  /** Reads the value; throws an InputError that says what was expected. */
  readonly read: (text: string) => T;
  /** The words that it takes, where it takes no others. */
  readonly words?: readonly string[];
  /** Whether it may be given several times; it then reads a list of one, and these lists are joined. */
  readonly many?: boolean;
  /** The topic of the help that it stands in. */
  readonly topic?: string;
}

/** Flags by name. */
export type Table = { readonly [name: string]: Flag<unknown> };

/** The value of every flag of a table. */
export type Values<F extends Table> = { readonly [K in keyof F]: F[K]["fallback"] };

/** What a process exits with when nobody reads its output: 128 and the number of SIGPIPE. */
const BROKEN_PIPE = 141;

/** A command line that cannot be understood. */
export class UsageError extends FirnError {
  override name = "UsageError";
}

/**
 * Puts flags under a topic, by which `--help` and files of `--config` sort them.
 *
 * @param name The topic
 * @param flags The flags; those that have a topic keep it
 * @returns The flags
 */
export function topic<F extends Table>(name: string, flags: F): F {
  return Object.fromEntries(Object.entries(flags).map(([key, flag]) => [key, { topic: name, ...flag }])) as F;
}

/** The topics of a table, in its order. */
export function topicsOf(table: Table): readonly string[] {
  return [...new Set(Object.values(table).flatMap(({ topic }) => topic ?? []))];
}

/** A flag whose value is taken as it stands. */
export function text<T extends string | null>(
  placeholder: string,
  about: string,
  fallback: T,
): Flag<string | T> {
  return { placeholder, about, fallback, read: (value) => value };
}

/** A flag whose values, of one or several times that it is given, are taken as they stand. */
export function texts(
  placeholder: string,
  about: string,
  fallback: readonly string[],
): Flag<readonly string[]> {
  return { placeholder, about, fallback, read: (value) => [value], many: true };
}

/** A flag whose value is a whole number. */
export function whole<T extends number | null>(about: string, fallback: T, least = 1): Flag<number | T> {
  return number({
    about,
    fallback,
    placeholder: "N",
    rule: `a whole number from ${least}`,
    holds: (n) => Number.isSafeInteger(n) && n >= least,
  });
}

/** A flag whose value is a number above 0. */
export function positive<T extends number | null>(about: string, fallback: T): Flag<number | T> {
  return number({
    about,
    fallback,
    placeholder: "X",
    rule: "a number above 0",
    holds: (n) => n > 0 && n < Infinity,
  });
}

/** A flag whose value is a number from 0. */
export function fromZero<T extends number | null>(about: string, fallback: T): Flag<number | T> {
  return number({
    about,
    fallback,
    placeholder: "X",
    rule: "a number from 0",
    holds: (n) => n >= 0 && n < Infinity,
  });
}

/** A flag whose value is a number from 0 to 1. */
export function share(about: string, fallback: number): Flag<number> {
  return number({
    about,
    fallback,
    placeholder: "X",
    rule: "a number from 0 to 1",
    holds: (n) => n >= 0 && n <= 1,
  });
}

/** A flag whose value is one of some words. */
export function oneOf<const T extends string, N extends T | null = T>(
  words: readonly T[],
  about: string,
  fallback: N,
): Flag<T | N> {
  return {
    placeholder: words.join("|"),
    about,
    fallback,
    words,
    read: (value) => {
      const found = words.find((word) => word === value);
      if (found === undefined) throw new InputError(`one of ${words.join(", ")}`);
      return found;
    },
  };
}

/** A flag without a value: true when it is given. */
export function toggle(about: string): Flag<boolean> {
  return { placeholder: "", about, fallback: false, read: () => true };
}

function number<T extends number | null>(
  { rule, holds, fallback, ...flag }: Omit<Flag<T>, "read"> & {
    readonly rule: string;
    readonly holds: (n: number) => boolean;
  },
): Flag<number | T> {
  return {
    ...flag,
    fallback,
    read: (value) => {
      const n = value.trim() === "" ? NaN : Number(value);
      if (!holds(n)) throw new InputError(rule);
      return n;
    },
  };
}

/** What a command line says. */
export interface ReadFlags<F extends Table> {
  readonly values: Values<F>;
  /** The flags that were given. */
  readonly given: readonly (keyof F)[];
  /** Whether `--help` was asked for, or the topic of `--help TOPIC`. */
  readonly help: boolean | string;
}

/**
 * Reads a command line. `--no-NAME` turns a toggle off, which a file of `--config` may have turned on.
 *
 * @param args The arguments
 * @param table The flags
 * @returns Values, which flags were given, and what help was asked for
 * @throws {UsageError} On an unknown flag, one that is given twice, a missing or wrong value, or a stray argument
 */
export function readFlags<F extends Table>(args: readonly string[], table: F): ReadFlags<F> {
  const names = Object.keys(table), toggles = names.filter((name) => table[name].placeholder === "");
  const many = names.filter((name) => table[name].many);
  const off = toggles.map((name) => `no-${name}`).filter((name) => !Object.hasOwn(table, name));
  const { rest, help } = helpIn(args, table);
  checkNames(rest, { known: ["help", ...names], many, toggles: ["help", ...toggles, ...off], off });
  const valued = names.filter((name) => !toggles.includes(name));
  const parsed: Record<string, unknown> & { readonly _: readonly (string | number)[] } = parseArgs(
    joined(rest, valued),
    {
      string: valued,
      boolean: [...toggles, ...off],
      collect: many,
      unknown: (arg) => {
        throw new UsageError(
          arg.startsWith("-") ? `there is no flag "${arg.split("=")[0]}"` : `"${arg}" belongs to no flag`,
        );
      },
    },
  );
  // What follows "--" is not asked about.
  if (parsed._.length > 0) throw new UsageError(`"${parsed._[0]}" belongs to no flag`);
  // A toggle that is absent reads as false.
  const turnedOff = off.filter((name) => parsed[name] === true).map((name) => name.slice("no-".length));
  for (const name of toggles) if (parsed[name] === false) delete parsed[name];
  for (const name of many) if ((parsed[name] as readonly unknown[]).length === 0) delete parsed[name];
  const given = names.filter((name) => parsed[name] !== undefined || turnedOff.includes(name));
  const values = Object.entries(table).map(([name, flag]) => {
    const value = parsed[name];
    if (value === undefined) return [name, flag.fallback];
    const read = (one: unknown): unknown => readValue(name, flag, one);
    return [name, flag.many ? (value as readonly unknown[]).flatMap(read) : read(value)];
  });
  return { values: Object.fromEntries(values), given, help };
}

/** Takes `--help`, `-h` and the topic behind it out of arguments. */
function helpIn(
  args: readonly string[],
  table: Table,
): { readonly rest: readonly string[]; readonly help: boolean | string } {
  const end = args.includes("--") ? args.indexOf("--") : args.length;
  const at = args.findIndex((arg, i) => i < end && /^(--help(=.*)?|-h)$/.test(arg)), topics = topicsOf(table);
  if (at < 0) return { rest: args, help: false };
  const joined = args[at].startsWith("--help=");
  const named = joined ? args[at].slice("--help=".length) : args.slice(at + 1, end)[0];
  if (topics.length === 0 && joined) throw new UsageError(`--help takes no value: got "${args[at]}"`);
  if (topics.length === 0 || named === undefined || named.startsWith("-")) {
    return { rest: args.toSpliced(at, 1), help: true };
  }
  if (!topics.includes(named)) {
    throw new UsageError(`--help has the topics ${topics.join(", ")}: got "${named}"`);
  }
  return { rest: args.toSpliced(at, joined ? 1 : 2), help: named };
}

function readValue(name: string, flag: Flag<unknown>, value: unknown): unknown {
  if (value === "") throw new UsageError(`--${name} needs a value: --${name} ${flag.placeholder}`);
  try {
    return flag.read(String(value));
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new UsageError(
      `--${name} must be ${error.message}: got "${value}"${meant(String(value), flag.words ?? [])}`,
    );
  }
}

/**
 * Arguments with some values joined to the flag before them: negative numbers, which look like flags themselves, and those of
 * flags that begin with "no-", which the parser takes for toggles.
 */
function joined(args: readonly string[], valued: readonly string[]): string[] {
  const joins = (flag = "", value = ""): boolean =>
    /^--[^=]+$/.test(flag) &&
    (/^-[\d.]/.test(value) || /^--no-/.test(flag) && valued.includes(flag.slice(2)) && /^[^-]/.test(value));
  return args.flatMap((arg, i) => {
    if (joins(args[i - 1], arg)) return [];
    return joins(arg, args[i + 1]) ? [`${arg}=${args[i + 1]}`] : [arg];
  });
}

/** Refuses flags that are unknown or given twice, and values of those that take none. */
function checkNames(
  args: readonly string[],
  { known, many, toggles, off }: Readonly<Record<"known" | "many" | "toggles" | "off", readonly string[]>>,
): void {
  const end = args.includes("--") ? args.indexOf("--") : args.length;
  for (const arg of args.slice(0, end)) {
    const name = arg.match(/^--([^=]+)=/)?.[1];
    if (name !== undefined && toggles.includes(name)) {
      throw new UsageError(`--${name} takes no value: got "${arg}"`);
    }
  }
  const names = args.slice(0, end).flatMap((arg) => arg.match(/^--([^=]+)/)?.[1] ?? []);
  for (const [i, name] of names.entries()) {
    if (!known.includes(name) && !off.includes(name)) {
      const near = nearest(name, known);
      throw new UsageError(
        `there is no flag "--${name}"${near === undefined ? "" : `; did you mean --${near}?`}`,
      );
    }
    if (off.includes(name) && names.includes(name.slice("no-".length))) {
      throw new UsageError(`--${name} and --${name.slice("no-".length)} are both given: give one`);
    }
    if (names.indexOf(name) < i && !many.includes(name)) {
      throw new UsageError(`--${name} is given twice: give it once`);
    }
  }
}

/** The name that a misspelled one may stand for: the one of the fewest changes. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const near = known.filter((other) => distance(name, other) <= Math.min(2, name.length / 2));
  return near.toSorted((a, b) => distance(name, a) - distance(name, b))[0];
}

/** The question whether a misspelled value stands for one of some words, behind what was got; nothing where none is near. */
export function meant(value: string, words: readonly string[]): string {
  const near = words.find((word) => word.toLowerCase() === value.toLowerCase()) ?? nearest(value, words);
  return near === undefined ? "" : `; did you mean ${near}?`;
}

/** Letters to insert, drop, replace or swap with their neighbour to make one word of another. */
function distance(a: string, b: string): number {
  const rows = Array.from({ length: a.length + 1 }, (_, i) => [i]);
  for (let j = 0; j <= b.length; j++) rows[0][j] = j;
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      rows[i][j] = Math.min(
        rows[i - 1][j] + 1,
        rows[i][j - 1] + 1,
        rows[i - 1][j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1),
        swapped ? rows[i - 2][j - 2] + 1 : Infinity,
      );
    }
  }
  return rows[a.length][b.length];
}

/**
 * Runs an example's main function; failures that a user can mend become one line and an exit status.
 *
 * @param main The example, which takes a command line
 * @param name Its name, before the message
 */
export async function runMain(
  main: (args: readonly string[]) => Promise<void>,
  name: string,
): Promise<void> {
  try {
    await main(Deno.args);
  } catch (error) {
    const { code, text } = failureOf(error, name);
    if (text !== "" && await noteWhy(text)) printError(text);
    Deno.exit(code);
  }
}

/**
 * What a failed example says, and exits with.
 *
 * @param error What it threw
 * @param name Its name, before the message
 * @returns The exit status and the text
 */
export function failureOf(error: unknown, name: string): { readonly code: number; readonly text: string } {
  if (error instanceof UsageError) return { code: 2, text: `${name}: ${error.message}\nSee --help` };
  if (error instanceof InterruptedError) return { code: error.code, text: `${name}: ${error.message}` };
  if (error instanceof FirnError) return { code: 1, text: `${name}: ${error.message}` };
  // Who read the output, such as head, has gone: there is nothing to say, and nobody to hear it.
  if (error instanceof Deno.errors.BrokenPipe) return { code: BROKEN_PIPE, text: "" };
  // Any other error is a defect: show where.
  return { code: 1, text: Deno.inspect(error) };
}
