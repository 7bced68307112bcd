/**
 * Rows of data, and what is wrong with one.
 *
 * @module
 */

import { DataError } from "../../errors.ts";

/** A row: values by the name of their column. */
export type Row = Readonly<{ [column: string]: unknown }>;

/** Where a row stands. */
export interface RowPlace {
  /** Its file. */
  readonly file: string;
  /** What rows of the file are counted by. */
  readonly unit: "line" | "row";
  /** Its line or its number, from 1. */
  readonly line: number;
}

/** A row that cannot be used. */
export class RowError extends DataError {
  /** Name of the class, kept when code is minified. */
  override name = "RowError";
  /** Where the row stands. */
  readonly place: RowPlace;
  /** What is wrong with it. */
  readonly rule: string;

  /** Names the place and the rule. */
  constructor(place: RowPlace, rule: string, options?: ErrorOptions) {
    const { file, unit, line } = place;
    const mend = rule.includes("; ")
      ? ""
      : `; mend the ${unit}, or leave bad rows out: skipBadRows, or --skip-bad-rows N`;
    super(`Cannot use ${unit} ${line} of "${file}" as ${rule}${mend}`, options);
    this.place = place;
    this.rule = rule;
  }
}

/** A row and where it stands. */
export interface PlacedRow extends RowPlace {
  /** The row. */
  readonly row: Row;
}

/** What became of a record: a row, or what is wrong with it. */
export type Parsed = Row | string;

/** Text of a value in a message: short, whatever it is. */
export function clip(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
