/**
 * What a model family is, and how its `config.json` is read.
 *
 * @module
 */

import type { Tensor } from "../tensor.ts";
import type { Path } from "../tree.ts";

/** A model family: one file, and one row of the table in `models/mod.ts`. */
// deno-lint-ignore no-explicit-any
export interface Family<C = any, P = any> {
  /** `model_type` of `config.json`. */
  readonly name: string;
  /** Entry of `architectures` in `config.json`. */
  readonly architecture: string;
  /** Reads and checks the configuration. */
  parse(read: ConfigReader): C;
  /** Shape of every parameter, by checkpoint key. */
  shapes(config: C): ReadonlyMap<Path, readonly number[]>;
  /** Whether a checkpoint may hold this key without it being a parameter. */
  ignores?(key: Path, config: C): boolean;
  /** From ids i32 [B, T] to hidden states f32 [B, T, C], before the head. */
  hidden(params: P, ids: Tensor, options: { readonly config: C; readonly loraScale?: number }): Tensor;
  /** The head, f32 or bf16 [V, C]: scores are its products with hidden states. */
  head(params: P): Tensor;
  /** Longest sequence, in tokens. */
  maxLength(config: C): number;
  /** Entries of the vocabulary. */
  vocabSize(config: C): number;
  /** Standard deviation that a new parameter starts with; null for ones. */
  normal(path: Path): number | null;
}

/** A checked view of `config.json`. */
export interface ConfigReader {
  /** A number above 0. */
  number(key: string, fallback?: number): number;
  /** A whole number above 0. */
  count(key: string, fallback?: number): number;
  /** A text. */
  string(key: string, fallback?: string): string;
  /** True or false. */
  boolean(key: string, fallback: boolean): boolean;
  /** A record, or null where the key is absent. */
  record(key: string): Readonly<Record<string, unknown>> | null;
  /** An error that names the file, the key, the rule and what was seen. */
  error(key: string, rule: string, seen: unknown): Error;
}

/**
 * Wraps a parsed `config.json`.
 *
 * @param json Its content
 * @param file Its path, for errors
 * @returns The reader; each getter throws when a value is missing or of the wrong kind
 */
export function configReader(json: Readonly<Record<string, unknown>>, file: string): ConfigReader {
  const error = (key: string, rule: string, seen: unknown): Error =>
    new TypeError(`Cannot read "${key}" of "${file}" as ${rule}: ${JSON.stringify(seen) ?? "it is missing"}`);
  return {
    error,
    number(key, fallback) {
      const value = json[key] ?? fallback;
      if (typeof value !== "number" || !(value > 0)) {
        throw error(key, "it must be a positive number", json[key]);
      }
      return value;
    },
    count(key, fallback) {
      const value = json[key] ?? fallback;
      if (!(Number.isSafeInteger(value) && value as number > 0)) {
        throw error(key, "it must be a whole number above 0", json[key] ?? fallback);
      }
      return value as number;
    },
    string(key, fallback) {
      const value = json[key] ?? fallback;
      if (typeof value !== "string") throw error(key, "it must be a string", json[key]);
      return value;
    },
    boolean(key, fallback) {
      const value = json[key] ?? fallback;
      if (typeof value !== "boolean") throw error(key, "it must be true or false", json[key]);
      return value;
    },
    record(key) {
      const value = json[key] ?? null;
      if (value !== null && (typeof value !== "object" || Array.isArray(value))) {
        throw error(key, "it must be a record", value);
      }
      return value as Readonly<Record<string, unknown>> | null;
    },
  };
}
