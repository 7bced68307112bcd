/**
 * Checked access to the objects of `tokenizer.json` and its neighbours.
 *
 * @module
 */

import { DataError } from "../../errors.ts";

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
  /** A list. */
  list(key: string): readonly unknown[];
  /** An object, or null where the key is absent or null. */
  object(key: string): Fields | null;
  /** Objects of a list. */
  objects(key: string): readonly Fields[];
  /** One of some words; the fallback where the key is absent or null. */
  word<W extends string>(key: string, words: readonly W[], fallback?: W): W;
  /** An error about a key. */
  error(key: string, rule: string, seen: unknown): DataError;
}

/**
 * Wraps a value that must be an object.
 *
 * @param value The value
 * @param place `path`: its file; `name`: where it stands in it, empty for the whole file
 * @returns The view
 * @throws {DataError} When it is no object
 */
export function fieldsOf(
  value: unknown,
  { path, name = "" }: { readonly path: string; readonly name?: string },
): Fields {
  const nameOf = (key: string): string => name === "" ? key : key === "" ? name : `${name}.${key}`;
  const error = (key: string, rule: string, seen: unknown): DataError =>
    new DataError(
      `Cannot use "${path}" as "${nameOf(key)}" must be ${rule}: got ${shortly(seen)}; ` +
        "get the file again, or save the tokenizer with a current version of its tool",
    );
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw error("", "an object", value);
  }
  const json = value as Readonly<Record<string, unknown>>;
  const seen = (key: string): unknown => Object.hasOwn(json, key) ? json[key] ?? undefined : undefined;
  function list(key: string): readonly unknown[] {
    const found = seen(key);
    if (!Array.isArray(found)) throw error(key, "a list", found);
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
    object: (key) => seen(key) === undefined ? null : fieldsOf(json[key], { path, name: nameOf(key) }),
    objects: (key) => list(key).map((one, i) => fieldsOf(one, { path, name: `${nameOf(key)}[${i}]` })),
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

function shortly(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
