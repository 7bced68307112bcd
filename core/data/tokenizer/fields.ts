/**
 * Checked access to the objects of `tokenizer.json` and its neighbours.
 *
 * @module
 */

import { DataError } from "../../errors.ts";

/** Objects in objects, and parts of a sequence; published tokenizers have 4 and 12. */
const MOST_DEPTH = 5, MOST_PARTS = 32;

const MEND = "get the file again, or save the tokenizer with a current version of its tool";

/** A checked view of a JSON object. Each getter throws a `DataError` that names the file, the key and the rule. */
export interface Fields {
  /** The object itself. */
  readonly json: Readonly<Record<string, unknown>>;
  /** A text; the fallback where the key is absent or null. */
  text(key: string, fallback?: string): string;
  /** True or false; the fallback where the key is absent or null. */
  flag(key: string, fallback: boolean): boolean;
  /** A whole number from 0 to a limit; the fallback where the key is absent or null. */
  whole(key: string, options: { readonly most: number; readonly fallback?: number }): number;
  /** A list of so many at most; 32 when no limit is given. */
  list(key: string, most?: number): readonly unknown[];
  /** An object, or null where the key is absent or null. */
  object(key: string): Fields | null;
  /** Objects of a list of so many at most; 32 when no limit is given. */
  objects(key: string, most?: number): readonly Fields[];
  /** One of some words; the fallback where the key is absent or null. */
  word<W extends string>(key: string, words: readonly W[], fallback?: W): W;
  /** An error about a key. */
  error(key: string, rule: string, seen: unknown): DataError;
}

/**
 * Wraps a value that must be an object.
 *
 * @param value The value
 * @param place `path`: its file; `name`: where it stands in it, empty for the whole file; `mend`: what helps where a value
 * is wrong
 * @returns The view
 * @throws {DataError} When it is no object
 */
export function fieldsOf(
  value: unknown,
  { path, name = "", depth = 0, mend = MEND }: {
    readonly path: string;
    readonly name?: string;
    readonly depth?: number;
    readonly mend?: string;
  },
): Fields {
  const nameOf = (key: string): string => name === "" ? key : key === "" ? name : `${name}.${key}`;
  const error = (key: string, rule: string, seen: unknown): DataError =>
    new DataError(
      `Cannot use "${path}" as "${nameOf(key)}" must be ${rule}: got ${shortly(seen)}; ${mend}`,
    );
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw error("", "an object", value);
  }
  if (depth > MOST_DEPTH) throw error("", `in at most ${MOST_DEPTH} other objects`, value);
  const json = value as Readonly<Record<string, unknown>>;
  const seen = (key: string): unknown => Object.hasOwn(json, key) ? json[key] ?? undefined : undefined;
  const inner = (name: string): Parameters<typeof fieldsOf>[1] => ({ path, name, depth: depth + 1, mend });
  function list(key: string, most = MOST_PARTS): readonly unknown[] {
    const found = seen(key);
    if (!Array.isArray(found) || found.length > most) throw error(key, `a list of at most ${most}`, found);
    return found;
  }
  return {
    json,
    error,
    list,
    text(key, fallback) {
      const found = seen(key) ?? fallback;
      if (typeof found !== "string") throw error(key, "a text", found);
      return found;
    },
    flag(key, fallback) {
      const found = seen(key) ?? fallback;
      if (typeof found !== "boolean") throw error(key, "true or false", found);
      return found;
    },
    whole(key, { most, fallback }) {
      const found = seen(key) ?? fallback;
      if (!isWhole(found, most)) throw error(key, `a whole number from 0 to ${most}`, found);
      return found;
    },
    object: (key) => seen(key) === undefined ? null : fieldsOf(json[key], inner(nameOf(key))),
    objects: (key, most) => list(key, most).map((one, i) => fieldsOf(one, inner(`${nameOf(key)}[${i}]`))),
    word<W extends string>(key: string, words: readonly W[], fallback?: W): W {
      const found = seen(key) ?? fallback;
      if (!words.includes(found as W)) throw error(key, `one of ${words.join(", ")}`, found);
      return found as W;
    },
  };
}

/** Whether a value is a whole number from 0 to a limit. */
export function isWhole(value: unknown, most: number): value is number {
  return Number.isSafeInteger(value) && value as number >= 0 && value as number <= most;
}

/** A text that is put into others. */
export function shortText(fields: Fields, key: string): string {
  const text = fields.text(key);
  if (text.length > 64) throw fields.error(key, "a text of at most 64 characters", text);
  return text;
}

/** A text of one character; the fallback where the key is absent or null. */
export function oneCharacter(fields: Fields, key: string, fallback?: string): string {
  const text = fields.text(key, fallback);
  if ([...text.slice(0, 3)].length !== 1) throw fields.error(key, "one character", text);
  return text;
}

function shortly(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === "object" && value !== null) return "an object";
  const text = JSON.stringify(typeof value === "string" ? value.slice(0, 64) : value) ?? "nothing";
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
