/**
 * Files of flags, `--config run.toml`: each flag is a key, flags of the command line win, and a run writes the file that
 * repeats it.
 *
 * @module
 */

import { InputError } from "@firn/train";
import { hostFileSystem } from "@firn/train/data";
import { parse, stringify, TomlError } from "smol-toml";
import {
  type Flag,
  nearest,
  type ReadFlags,
  readFlags,
  type Table,
  text,
  topicsOf,
  UsageError,
  type Values,
} from "./flags.ts";

/** Name of the file that a run writes. */
export const CONFIG_FILE = "run.toml";

/** The flag about the file. */
export const CONFIG_FLAGS: { readonly config: Flag<string | null> } = {
  config: text(
    "FILE",
    `flags as keys of a TOML file, such as the ${CONFIG_FILE} of another run; flags beside it win`,
    null,
  ),
};

/** Flags that stand on a command line alone. */
const NO_KEYS: readonly string[] = ["config", "resume"];

/** Flags that say nothing about what a run computes, or would write over the run that is repeated. */
const NOT_WRITTEN: readonly string[] = [...NO_KEYS, "out", "log", "watch", "dry-run", "show-batch"];

/** A command that takes `--config`. */
export interface Command<F extends Table> {
  readonly table: F;
  /** Refuses values that do not go together. It names each flag as `--name`. */
  readonly check?: (values: Values<F>) => void;
}

/**
 * Reads a command line and the file that its `--config` names, and checks that all goes together.
 *
 * @param args The arguments
 * @param options The command
 * @returns As of {@link readFlags}; keys of the file are given, too
 * @throws {UsageError} When the command line or the file cannot be understood; it names the line of the file
 * @throws {FileError} When the file cannot be read
 */
export async function readCommand<F extends Table & typeof CONFIG_FLAGS>(
  args: readonly string[],
  { table, check }: Command<F>,
): Promise<ReadFlags<F>> {
  const read = readFlags(args, table), path = read.values.config as string | null;
  if (read.help) return read;
  const file = path === null ? new Map<string, Key>() : readConfig(await textIn(path), { table, path });
  const own = [...file].filter(([name]) => !read.given.includes(name));
  const values = {
    ...read.values,
    ...Object.fromEntries(own.map(([name, { value }]) => [name, value])),
  } as Values<F>;
  try {
    check?.(values);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(error.message + placesOf(error.message, { path, own }), { cause: error });
  }
  return { ...read, values, given: [...read.given, ...own.map(([name]) => name)] };
}

/** A key of a file. */
interface Key {
  readonly value: unknown;
  /** Its line, from 1. */
  readonly line: number;
}

async function textIn(path: string): Promise<string> {
  const bytes = await hostFileSystem().read(path);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new UsageError(`Cannot read "${path}" as TOML is UTF-8: it is something else`, { cause });
  }
}

/**
 * Reads the keys of a file, each as its flag reads a value.
 *
 * @param text The text of the file
 * @param options The flags, and the path of the file
 * @returns Keys by name
 * @throws {UsageError} When it is no TOML, has a key that is no flag, or a value that its flag does not take
 */
export function readConfig(
  text: string,
  { table, path }: { readonly table: Table; readonly path: string },
): ReadonlyMap<string, Key> {
  const found = parsed(text, path), lines = linesOf(text);
  return new Map(
    Object.entries(found).map(([name, value]) => {
      const line = lines.get(name)!, flag = Object.hasOwn(table, name) ? table[name] : undefined;
      const refuse = (why: string): never => {
        throw new UsageError(`Cannot use line ${line} of "${path}" as ${why}`);
      };
      if (isTable(value)) return refuse(`keys stand without tables: got "${name}"`);
      if (NO_KEYS.includes(name)) return refuse(`"${name}" stands on the command line alone: drop it`);
      if (flag === undefined) {
        const near = nearest(name, Object.keys(table));
        return refuse(
          `each key must be a flag: there is no "${name}"${
            near === undefined ? "" : `; did you mean "${near}"?`
          }`,
        );
      }
      const plain = value instanceof Date ? value.toISOString() : value;
      try {
        return [name, { value: typedValue(flag, plain), line }];
      } catch (error) {
        if (!(error instanceof InputError)) throw error;
        return refuse(`"${name}" must be ${error.message}: got ${shownValue(plain)}`);
      }
    }),
  );
}

/**
 * A file as flags of a command line, whatever command they are for.
 *
 * @param path The file
 * @returns `--name=value` of each key, or `--name`, without texts of several lines and what is false
 * @throws {UsageError} When it is no TOML
 * @throws {FileError} When it cannot be read
 */
export async function flagsIn(path: string): Promise<readonly string[]> {
  const values = Object.entries(parsed(await textIn(path), path));
  return values.flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).flatMap((one) =>
      one === true
        ? [`--${name}`]
        : typeof one === "number" || typeof one === "string" && !one.includes("\n")
        ? [`--${name}=${one}`]
        : []
    )
  );
}

function parsed(text: string, path: string): Readonly<Record<string, unknown>> {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [first] = error.message.replace("Invalid TOML document: ", "").split("\n");
    throw new UsageError(`Cannot use line ${error.line} of "${path}" as it must be TOML: ${first}`, {
      cause: error,
    });
  }
}

/** The line of each key, in a file that is TOML as a whole. */
function linesOf(text: string): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  for (const { line, statement } of statementsOf(text)) {
    for (const key of Object.keys(parse(statement))) if (!found.has(key)) found.set(key, line);
  }
  return found;
}

/** Strings of several lines, strings of one, comments, brackets, ends of lines, and all else. */
const PARTS =
  /"""[^"\\]*(?:(?:\\[^]|"(?!""))[^"\\]*)*"{3,5}|'''[^']*(?:'(?!'')[^']*)*'{3,5}|"[^"\\\n]*(?:\\.[^"\\\n]*)*"|'[^'\n]*'|#[^\n]*|[[\]{}\n]|[^"'#[\]{}\n]+/g;

/** The statements of a file that is TOML: a line ends one, unless it is within a string or brackets. */
function* statementsOf(text: string): Generator<{ readonly line: number; readonly statement: string }> {
  let line = 1, ended = 1, from = 0, depth = 0;
  for (const { 0: part, index } of `${text}\n`.matchAll(PARTS)) {
    if (part === "[" || part === "{") depth++;
    if (part === "]" || part === "}") depth--;
    ended += part.split("\n").length - 1;
    if (part !== "\n" || depth > 0) continue;
    yield { line, statement: text.slice(from, index + 1) };
    [line, from] = [ended, index + 1];
  }
}

function isTable(value: unknown): boolean {
  const [one] = Array.isArray(value) ? value : [value];
  return typeof one === "object" && !(one instanceof Date);
}

/**
 * Reads a value of a file, which has a type, as its flag reads the text of a command line.
 *
 * @param flag The flag
 * @param value The value
 * @returns What the flag makes of it
 * @throws {InputError} When the flag does not take it; the message says what it must be
 */
export function typedValue(flag: Flag<unknown>, value: unknown): unknown {
  if (flag.many) {
    const list = Array.isArray(value) ? value : [value];
    return list.flatMap((one) => typedValue({ ...flag, many: false }, one));
  }
  if (value === flag.fallback) return value;
  if (flag.placeholder === "") {
    if (typeof value === "boolean") return value;
    throw new InputError("true or false");
  }
  if (typeof value !== "string" && typeof value !== "number") {
    throw new InputError(`a value, ${flag.placeholder}`);
  }
  if (value === "") throw new InputError("a text that is not empty");
  const read = flag.read(String(value)), [one] = Array.isArray(read) ? read : [read];
  // A size, "5GB", is a text that stands for a number.
  if (one === value || typeof one === "number" && Number.isNaN(Number(value))) return read;
  throw new InputError(typeof one === "number" ? "a number, without quotes" : "a text, in quotes");
}

function shownValue(value: unknown): string {
  return (typeof value === "number" ? String(value) : String(JSON.stringify(value))).slice(0, 60);
}

/** Where the flags of a message stand in the file. */
function placesOf(
  message: string,
  { path, own }: { readonly path: string | null; readonly own: readonly (readonly [string, Key])[] },
): string {
  const named = [...message.matchAll(/--([a-z][a-z0-9-]*)/g)].map(([, name]) => name);
  const places = own.filter(([name]) => named.includes(name)).map(([name, { line }]) =>
    `${name} in line ${line}`
  );
  return places.length === 0 ? "" : ` ("${path}" has ${places.join(", ")})`;
}

/** What a run was started with. */
interface Configured {
  readonly table: Table;
  readonly flags: Values<Table>;
  readonly ranks?: number;
}

/**
 * Writes the file that repeats a run.
 *
 * @param command The name of the command
 * @param options Its flags, their values, and how many ranks it has: without as many it is another run
 * @returns TOML, by topics
 */
export function configText(
  command: string,
  { table, flags, ranks = 1 }: Configured,
): string {
  const names = Object.keys(table).filter((name) =>
    !NOT_WRITTEN.includes(name) && flags[name] !== null && flags[name] !== undefined
  );
  const parts = [...topicsOf(table), undefined].map((topic) => {
    const own = names.filter((name) => table[name].topic === topic);
    const keys = stringify(Object.fromEntries(own.map((name) => [name, flags[name]])));
    return own.length === 0 ? "" : `\n${topic === undefined ? "" : `# ${topic}\n`}${keys}`;
  });
  const started = ranks === 1 ? command : `ranks ${ranks} ${command}`;
  return `# ./firn ${started} --config ${CONFIG_FILE} does this again\n${parts.join("")}`;
}

/**
 * Writes {@link configText} into a folder.
 *
 * @param folder The folder of what was trained
 * @param options The command, its flags, their values, and how many ranks it has
 */
export async function writeConfig(
  folder: string,
  { command, ...options }: Configured & { readonly command: string },
): Promise<void> {
  await hostFileSystem().write(`${folder}/${CONFIG_FILE}`, configText(command, options));
}

/**
 * The file of a run that goes on, perhaps with another learning rate: its comments say which values were others until then.
 *
 * @param before The file so far
 * @param now {@link configText} of what holds from here on
 * @param step The last step that was taken before
 * @returns The file
 */
export function resumedConfig(before: string, now: string, step: number): string {
  const split = (text: string): readonly [head: string, keys: string] => {
    const at = text.indexOf("\n\n");
    return [text.slice(0, at), text.slice(at)];
  };
  const [head, old] = split(before), [, keys] = split(now), lines = keys.split("\n");
  const others = old.split("\n").filter((line) => line.includes(" = ") && !lines.includes(line));
  return `${head}${others.map((line) => `\n# but until step ${step} it had ${line}`).join("")}${keys}`;
}

/**
 * Writes the file of a run that begins or goes on.
 *
 * @param folder The folder of the run
 * @param toml {@link configText} of it
 * @param options `resumedAt`: the step that a run goes on after; null for one that begins
 */
export async function keepConfig(
  folder: string,
  toml: string,
  { resumedAt }: { readonly resumedAt: number | null },
): Promise<void> {
  const path = `${folder}/${CONFIG_FILE}`, files = hostFileSystem();
  const text = resumedAt === null || await files.stat(path) === null
    ? toml
    : resumedConfig(new TextDecoder().decode(await files.read(path)), toml, resumedAt);
  await files.write(path, text);
}
