/**
 * Command line flags as a table: reading, checking and `--help` from one place.
 *
 * @module
 */

import { FirnError, InputError } from "@firn/train";
import { printError } from "./print.ts";
import { InterruptedError } from "./signals.ts";
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
}

/** Flags by name. */
export type Table = { readonly [name: string]: Flag<unknown> };

/** The value of every flag of a table. */
export type Values<F extends Table> = { readonly [K in keyof F]: F[K]["fallback"] };

/** A command line that cannot be understood. */
export class UsageError extends FirnError {
  override name = "UsageError";
}

/** A flag whose value is taken as it stands. */
export function text<T extends string | null>(
  placeholder: string,
  about: string,
  fallback: T,
): Flag<string | T> {
  return { placeholder, about, fallback, read: (value) => value };
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
export function oneOf<T extends string>(words: readonly T[], about: string, fallback: T): Flag<T> {
  return {
    placeholder: words.join("|"),
    about,
    fallback,
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

/**
 * Reads a command line.
 *
 * @param args The arguments
 * @param table The flags
 * @returns Values, and which flags were given; `help` when `--help` was asked for
 * @throws {UsageError} On an unknown flag, a missing or wrong value, or a stray argument
 */
export function readFlags<F extends Table>(
  args: readonly string[],
  table: F,
): { readonly values: Values<F>; readonly given: readonly (keyof F)[]; readonly help: boolean } {
  const names = Object.keys(table), toggles = names.filter((name) => table[name].placeholder === "");
  const parsed: Record<string, unknown> & { readonly _: readonly (string | number)[] } = parseArgs(
    [...args],
    {
      string: names.filter((name) => !toggles.includes(name)),
      boolean: ["help", ...toggles],
      alias: { help: "h" },
      unknown: (arg) => {
        throw new UsageError(
          arg.startsWith("-") ? `there is no flag "${arg.split("=")[0]}"` : `"${arg}" belongs to no flag`,
        );
      },
    },
  );
  // What follows "--" is not asked about.
  if (parsed._.length > 0) throw new UsageError(`"${parsed._[0]}" belongs to no flag`);
  const values: Record<string, unknown> = {};
  // A toggle that is absent reads as false.
  for (const name of toggles) if (parsed[name] === false) delete parsed[name];
  const given = names.filter((name) => parsed[name] !== undefined);
  for (const [name, flag] of Object.entries(table)) {
    const value = parsed[name];
    if (value === undefined) {
      values[name] = flag.fallback;
      continue;
    }
    if (value === "") throw new UsageError(`--${name} needs a value: --${name} ${flag.placeholder}`);
    try {
      values[name] = flag.read(String(value));
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      throw new UsageError(`--${name} must be ${error.message}: got "${value}"`);
    }
  }
  return { values: values as Values<F>, given, help: parsed.help === true };
}

/**
 * Writes the help text of a table.
 *
 * @param usage First lines: the command and what it does
 * @param table The flags
 * @returns The text
 */
export function helpOf(usage: string, table: Table): string {
  const rows = Object.entries(table).map(([name, { placeholder, about, fallback }]): [string, string] => [
    `--${name} ${placeholder}`.trimEnd(),
    fallback === null || fallback === false ? about : `${about} [${fallback}]`,
  ]);
  rows.push(["--help, -h", "show this"]);
  const width = Math.max(...rows.map(([left]) => left.length));
  return `${usage}\n\n${rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join("\n")}\n`;
}

/**
 * Runs an example's main function; failures that a user can mend become one line and an exit status.
 *
 * @param main The example
 * @param name Its name, before the message
 */
export async function runMain(main: () => Promise<void>, name: string): Promise<void> {
  try {
    await main();
  } catch (error) {
    if (error instanceof UsageError) {
      printError(`${name}: ${error.message}\nSee --help`);
      Deno.exit(2);
    }
    if (error instanceof InterruptedError) {
      printError(`${name}: ${error.message}`);
      Deno.exit(error.code);
    }
    // Any other error is a defect: show where.
    printError(error instanceof FirnError ? `${name}: ${error.message}` : Deno.inspect(error));
    Deno.exit(1);
  }
}
