/**
 * Checked access to `config.json`.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { isRecord, shorten } from "../json_rules.ts";

/** A checked view of a JSON record. Getters treat null as absent and throw an `InputError` that names file and key. */
export interface ConfigReader {
  /** A number above 0. */
  number(key: string, fallback?: number): number;
  /** A number above 0, or null where the record says null; the fallback only where the key is absent. */
  numberOrNull(key: string, fallback: number | null): number | null;
  /** A whole number above 0. */
  count(key: string, fallback?: number): number;
  /** A whole number from 0. */
  id(key: string, fallback?: number): number;
  /** A whole number from 0, or null where the record says null; the fallback only where the key is absent. */
  idOrNull(key: string, fallback: number | null): number | null;
  /** A whole number of either sign, or null where the record says null; the fallback only where the key is absent. */
  wholeOrNull(key: string, fallback: number | null): number | null;
  /** Two whole numbers above 0, such as height and width; one stands for both. */
  counts(key: string, fallback?: number): readonly [number, number];
  /** A whole number above 0, or null where the record says null; the fallback only where the key is absent. */
  countOrNull(key: string, fallback: number | null): number | null;
  /** A text. */
  string(key: string, fallback?: string): string;
  /** True or false. */
  boolean(key: string, fallback: boolean): boolean;
  /** A list of texts, or null where the key is absent. */
  strings(key: string): readonly string[] | null;
  /** A list of numbers, or null where the key is absent. */
  numbers(key: string): readonly number[] | null;
  /** A record, or null where the key is absent. */
  record(key: string): Readonly<Record<string, unknown>> | null;
  /** The record of a key, an empty one where it is absent, under the same rules; errors name both keys. */
  sub(key: string): ConfigReader;
  /** Throws unless the key is absent or has this value; with null, unless it is absent. */
  only(key: string, value: string | number | boolean | null): void;
  /** An error that names the file, the key, the rule and what was seen. */
  error(key: string, rule: string, seen: unknown): Error;
}

/**
 * Wraps a parsed `config.json`.
 *
 * @param json Its content
 * @param file Its path, for errors
 * @param options `under`: what precedes its keys in errors, such as `text_config.`; nothing when absent
 * @returns The reader; each getter throws when a value is missing or of the wrong kind
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { configReader } from "@firn/train/models";
 *
 * const read = configReader({ hidden_size: 32 }, "config.json");
 * assertEquals([read.count("hidden_size"), read.boolean("attention_bias", false)], [32, false]);
 * ```
 */
export function configReader(
  json: Readonly<Record<string, unknown>>,
  file: string,
  { under = "" }: { readonly under?: string } = {},
): ConfigReader {
  const error = (key: string, rule: string, seen: unknown): Error =>
    new InputError(
      `Cannot read "${under}${key}" of "${file}" as ${rule}: ${
        seen === Infinity ? "it is infinite" : shorten(JSON.stringify(seen) ?? "it is missing")
      }`,
    );
  function value<T>(key: string, rule: Rule<T>, fallback?: T): T {
    const seen = json[key] ?? fallback;
    if (!rule.holds(seen)) throw error(key, rule.text, seen);
    return seen;
  }
  const orNull = <T>(key: string, rule: Rule<T>, fallback: T | null): T | null => {
    const absent = json[key] === undefined && fallback === null;
    return json[key] === null || absent ? null : value(key, rule, fallback ?? undefined);
  };
  return {
    error,
    number: (key, fallback) => value(key, NUMBER, fallback),
    count: (key, fallback) => value(key, COUNT, fallback),
    countOrNull: (key, fallback) => orNull(key, COUNT, fallback),
    numberOrNull: (key, fallback) => orNull(key, NUMBER, fallback),
    id: (key, fallback) => value(key, ID, fallback),
    idOrNull: (key, fallback) => orNull(key, ID, fallback),
    wholeOrNull: (key, fallback) => orNull(key, WHOLE, fallback),
    counts: (key, fallback) => {
      const seen = value(key, COUNTS, fallback);
      return typeof seen === "number" ? [seen, seen] : [seen[0], seen[1]];
    },
    string: (key, fallback) => value(key, STRING, fallback),
    boolean: (key, fallback) => value(key, BOOLEAN, fallback),
    strings: (key) => (json[key] ?? null) === null ? null : value(key, STRINGS),
    numbers: (key) => (json[key] ?? null) === null ? null : value(key, NUMBERS),
    record: (key) => (json[key] ?? null) === null ? null : value(key, RECORD),
    sub(key) {
      const inner = (json[key] ?? null) === null ? {} : value(key, RECORD);
      return configReader(inner, file, { under: `${under}${key}.` });
    },
    only(key, allowed) {
      const seen = json[key] ?? allowed;
      if (seen !== allowed) throw error(key, `it must be ${JSON.stringify(allowed)}`, seen);
    },
  };
}

interface Rule<T> {
  readonly text: string;
  holds(value: unknown): value is T;
}

const NUMBER: Rule<number> = {
  text: "it must be a positive number",
  // Up to what f32 holds.
  holds: (value): value is number => typeof value === "number" && value > 0 && Math.fround(value) < Infinity,
};
const COUNT: Rule<number> = {
  text: "it must be a whole number above 0",
  holds: (value): value is number => Number.isSafeInteger(value) && value as number > 0,
};
const ID: Rule<number> = {
  text: "it must be a whole number from 0",
  holds: (value): value is number => Number.isSafeInteger(value) && value as number >= 0,
};
const WHOLE: Rule<number> = {
  text: "it must be a whole number",
  holds: (value): value is number => Number.isSafeInteger(value),
};
const COUNTS: Rule<number | readonly number[]> = {
  text: "it must be one or two whole numbers above 0",
  holds: (value): value is number | readonly number[] =>
    Array.isArray(value) ? value.length === 2 && value.every((one) => COUNT.holds(one)) : COUNT.holds(value),
};
const STRING: Rule<string> = {
  text: "it must be a string",
  holds: (value) => typeof value === "string",
};
const BOOLEAN: Rule<boolean> = {
  text: "it must be true or false",
  holds: (value) => typeof value === "boolean",
};
const STRINGS: Rule<readonly string[]> = {
  text: "it must be a list of strings",
  holds: (value): value is string[] => Array.isArray(value) && value.every((one) => typeof one === "string"),
};
const NUMBERS: Rule<readonly number[]> = {
  text: "it must be a list of numbers",
  holds: (value): value is number[] => Array.isArray(value) && value.every((one) => typeof one === "number"),
};
const RECORD: Rule<Readonly<Record<string, unknown>>> = {
  text: "it must be a record",
  holds: isRecord,
};
