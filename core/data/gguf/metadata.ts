/**
 * Checked access to the metadata of a GGUF file.
 *
 * @module
 */

import { type Fields, fieldsOf } from "../tokenizer/fields.ts";
import type { GgufHeader } from "./header.ts";

/** Checked access to metadata. */
export interface MetadataFields extends Fields {
  /** A positive number as its shortest decimal that float32 does not tell from it; the fallback where the key is absent. */
  number(key: string, fallback?: number): number;
}

/**
 * Wraps the metadata of a file.
 *
 * @param metadata The metadata
 * @param path Its file, for errors
 * @returns Getters that throw a `DataError` where a value breaks their rule
 */
export function metadataFields(metadata: GgufHeader["metadata"], path: string): MetadataFields {
  const mend = "get the file again, or convert it again with a current version of llama.cpp";
  const fields = fieldsOf(metadata, { path, mend });
  return {
    ...fields,
    number(key, fallback) {
      const value = fields.json[key] ?? fallback;
      if (typeof value === "number" && value > 0 && Math.fround(value) < Infinity) return shortest(value);
      throw fields.error(key, "a positive number", value);
    },
  };
}

/** 1e-5 in place of 9.999999747378752e-6, which is what float32 makes of it. */
export function shortest(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === Math.fround(value)) return short;
  }
  return value;
}
