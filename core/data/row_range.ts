/**
 * Some rows of a stored tensor.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { InputError } from "../errors.ts";
import type { OpenFile } from "../host/file_system.ts";
import { invalid, type StoredSpec } from "./safetensors_header.ts";

/** Some entries along the first axis of a tensor. */
export interface RowRange {
  /** The first. */
  readonly from: number;
  /** The one after the last. */
  readonly to: number;
}

/**
 * First and last byte of some rows, from the beginning of the tensor.
 *
 * @param spec The tensor, and names for errors
 * @param rows The rows; all when absent
 * @returns The bytes
 * @throws {InputError} When the tensor does not have them, or they are not whole bytes
 */
export function rangeOf(
  { shape: [rows = 1], begin, end, name, path }: Pick<StoredSpec, "shape" | "begin" | "end"> & {
    readonly name: string;
    readonly path: string;
  },
  { from, to }: RowRange = { from: 0, to: rows },
): readonly [from: number, to: number] {
  const row = rows === 0 ? 0 : (end - begin) / rows;
  const whole = [from, to, from * row, to * row].every(Number.isInteger);
  if (whole && 0 <= from && from <= to && to <= rows) {
    return [from * row, to * row];
  }
  throw new InputError(
    `Cannot read rows ${from} to ${to} of "${name}" of "${path}" as they must be whole bytes of its ${
      counted(rows, "row")
    }`,
  );
}

interface Range {
  readonly path: string;
  readonly begin: number;
  readonly end: number;
}

/**
 * Reads bytes of a file that must be there.
 *
 * @param file The file
 * @param range Its path for errors, first byte and the byte after the last
 * @returns The bytes
 * @throws {DataError} When the file is shorter than it was
 */
export async function readAt(file: OpenFile, { path, begin, end }: Range): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = await file.read(begin, end);
  if (bytes.length === end - begin) return bytes;
  const seen = `it ends at ${begin + bytes.length}; it was cut while open: get it again`;
  throw invalid(path, `it must have ${counted(end, "byte")}`, seen);
}
