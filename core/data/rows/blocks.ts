/**
 * Files cut into blocks of whole records, each of which can be read by itself.
 *
 * @module
 */

import { DataError } from "../../errors.ts";
import type { OpenFile } from "../../host/file_system.ts";
import type { Records } from "./records.ts";

/** Bytes of a block, about; and those that a record may have. */
export const BLOCK = 2 ** 18, MOST_RECORD = 2 ** 26;

/** Bytes that are read at once. */
const CHUNK = 2 ** 20;

/** Bytes of a file that are whole records. */
export interface Span {
  /** Where they begin and end. */
  readonly begin: number;
  readonly end: number;
  /** The line of the first of them, from 1. */
  readonly line: number;
}

/** A record. */
export interface FileRecord {
  /** Its bytes. */
  readonly bytes: Uint8Array;
  /** The line where it begins, from 1; blank lines before its text count. */
  readonly line: number;
}

/**
 * Cuts a file into blocks.
 *
 * @param file The file
 * @param options `path`: its name, for errors; `records`: finds the ends of records; `begin`, `line`: where to begin; `size`:
 * bytes of a block, about
 * @returns Blocks without a gap between them
 * @throws {DataError} When a record has more than 64 MiB, or the file becomes shorter
 */
export async function* blocksOf(
  file: OpenFile,
  { path, records, begin, line, size = BLOCK }: Omit<Span, "end"> & {
    readonly path: string;
    readonly records: Records;
    readonly size?: number;
  },
): AsyncGenerator<Span & { readonly bytes: Uint8Array<ArrayBuffer> }, void, undefined> {
  // `whole`: bytes of the block that are whole records; `scanned`: bytes that were looked at.
  let held = new Uint8Array(), start = begin, at = line, whole = 0, scanned = 0;
  for (let next = begin; next < file.size;) {
    const end = Math.min(next + Math.max(CHUNK, size), file.size), read = await file.read(next, end);
    if (read.length < end - next) throw shorter(path);
    held = joined(held, read);
    next = end;
    while (scanned < held.length) {
      const found = records.end(held, scanned);
      if (found < 0) {
        scanned = held.length;
        break;
      }
      scanned = whole = found;
      if (whole >= size) {
        const bytes = held.slice(0, whole);
        yield { begin: start, end: start + whole, line: at, bytes };
        at += newLines(bytes);
        start += whole;
        held = held.slice(whole);
        scanned = whole = 0;
      }
    }
    if (held.length - whole > MOST_RECORD) {
      const row = at + newLines(held.subarray(0, whole));
      throw new DataError(
        `Cannot read line ${row} of "${path}" as a row may have ${MOST_RECORD} bytes: it has more; cut the row`,
      );
    }
  }
  if (held.length > 0) yield { begin: start, end: file.size, line: at, bytes: held };
}

/**
 * The records of a block.
 *
 * @param bytes The block
 * @param options `records`: finds their ends; `line`: that of the first
 * @returns Records that are not blank
 */
export function recordsOf(
  bytes: Uint8Array,
  { records, line }: { readonly records: Records; readonly line: number },
): FileRecord[] {
  const result: FileRecord[] = [];
  for (let from = 0; from < bytes.length;) {
    const found = records.end(bytes, from), end = found < 0 ? bytes.length : found;
    const first = firstText(bytes, { from, end, gap: records.gap });
    if (first < end) {
      result.push({ bytes: bytes.subarray(from, end), line: line + newLines(bytes.subarray(from, first)) });
    }
    line += newLines(bytes.subarray(from, end));
    from = end;
  }
  return result;
}

/** The error of a file that was cut while it was read. */
export function shorter(path: string): DataError {
  return new DataError(
    `Cannot read "${path}" as it must stay as it is while it is used: it became shorter; start again`,
  );
}

/** How many lines end in some bytes. */
function newLines(bytes: Uint8Array): number {
  let count = 0;
  for (let i = bytes.indexOf(10); i >= 0; i = bytes.indexOf(10, i + 1)) count++;
  return count;
}

/** Where the text of a record begins. */
function firstText(
  bytes: Uint8Array,
  { from, end, gap }: { readonly from: number; readonly end: number; readonly gap: Records["gap"] },
): number {
  let i = from;
  while (i < end && gap(bytes[i])) i++;
  return i;
}

function joined(a: Uint8Array<ArrayBuffer>, b: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (a.length === 0) return b;
  const bytes = new Uint8Array(a.length + b.length);
  bytes.set(a);
  bytes.set(b, a.length);
  return bytes;
}
