/**
 * Records of text as rows: JSON, and values between delimiters.
 *
 * @module
 */

import { counted } from "../../counted.ts";
import { isRecord } from "../../json_rules.ts";
import type { Parsed, Row } from "./row.ts";

/** A row of a `.jsonl` file. */
export function parseLine(text: string): Parsed {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return `a row must be a JSON object: ${(error as Error).message}`;
  }
  return isRecord(value) ? value : `a row must be a JSON object: it is ${kindOf(value)}`;
}

/**
 * A row of a JSON list, with what stands before it.
 *
 * @param text The record
 * @param first Whether the list begins with it
 * @returns The row, what is wrong with it, or null for the end of the list
 */
export function parseItem(text: string, first: boolean): Parsed | null {
  if (/^\s*\]\s*$/.test(text)) return null;
  const begin = text.indexOf("{");
  const gap = first ? /^\s*\[\s*$/ : /^\s*,\s*$/;
  if (begin < 0 || !gap.test(text.slice(0, begin))) {
    const end = first ? /^\s*\[\s*\]\s*$/.test(text) : false;
    return end ? null : "the list must hold objects with commas between: something else stands there";
  }
  return parseLine(text.slice(begin));
}

/** What reads values between delimiters. */
export type Delimited = (texts: readonly string[]) => readonly (readonly string[] | string)[];

/**
 * Makes a reader of values between delimiters.
 *
 * @param delimiter The delimiter
 * @returns From records to their fields, or what is wrong with a record
 */
export async function delimitedReader(delimiter: string): Promise<Delimited> {
  const { default: papa } = await import("papaparse");
  const parse = (text: string) => papa.parse(text, { delimiter, newline: "\n" });
  return (texts) => {
    const clean = texts.map((text) => text.replace(/\r?\n$/, "").replaceAll("\r\n", "\n"));
    const all = parse(clean.join("\n"));
    if (all.errors.length === 0 && all.data.length === texts.length) return all.data;
    return clean.map((text) => {
      const { data, errors } = parse(text);
      if (errors.length > 0) return `its quotes must close: ${errors[0].message}`;
      return data.length === 1 ? data[0] : "its quotes must close: it goes on behind its line";
    });
  };
}

/** A row from the fields of a record. */
export function fieldsRow(fields: readonly string[] | string, header: readonly string[]): Parsed {
  if (typeof fields === "string") return fields;
  if (fields.length !== header.length) {
    return `a row must have the ${
      counted(header.length, "column")
    } of the first line: it has ${fields.length}`;
  }
  return Object.fromEntries(
    header.flatMap((name, i) => name === "" ? [] : [[name, fields[i]] as const]),
  ) as Row;
}

function kindOf(value: unknown): string {
  return value === null ? "null" : Array.isArray(value) ? "a list" : `a ${typeof value}`;
}
