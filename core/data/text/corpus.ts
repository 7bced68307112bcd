/**
 * Documents that are read piece by piece, so that a text may be larger than the memory.
 *
 * @module
 */

import { DataError, FileError, InputError } from "../../errors.ts";
import type { FileSystemOptions } from "../../host/file_system.ts";
import { hostFileSystem } from "../../host/host_file_system.ts";
import { openRows, type Rows } from "../rows/open_rows.ts";
import { isRows } from "../rows/row_file.ts";
import { PIECE, type Piece, type PieceSizes, piecesOf } from "./pieces.ts";
import { readUtf8 } from "./utf8.ts";

/** Documents, of which none is blank. */
export interface Corpus {
  /** Characters in all, in UTF-16 code units. */
  readonly length: number;
  /** The pieces of the documents, in order. Each call begins with the first. */
  pieces(): AsyncIterable<Piece>;
}

/** Bytes that a file of text may have. With one id a byte, its ids take 8 GiB. */
const MOST_BYTES = 2 ** 31;

/** How a file is read in parts. */
export interface CorpusSizes extends PieceSizes {
  /** Bytes to read at once. */
  readonly chunk?: number;
}

/**
 * Opens a file of text. It is read once, so that what is wrong with it comes out before any work is done, and again
 * whenever its pieces are needed. Reading takes a few MB of memory, and a few times the longest row of a `.jsonl` file.
 *
 * @param path A `.txt` file, which is one document, its lines ended by line feeds whatever the file has, or any file of rows with a document in the column `text` of each
 * @param options The file system
 * @returns The documents
 * @throws {NotFoundError} When there is no such file
 * @throws {FileError} When it is no file, may not be read, or has more than 2 GiB
 * @throws {DataError} When it is blank, not UTF-8, or has a row without text or with more than 64 MiB
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memoryFileSystem, openCorpus } from "@firn/train/data";
 *
 * const rows = ["War", "Peace"].map((text) => JSON.stringify({ text })).join("\n");
 * const fileSystem = memoryFileSystem({ "novel.jsonl": rows });
 * const corpus = await openCorpus("novel.jsonl", { fileSystem });
 * assertEquals(corpus.length, 8);
 * assertEquals(await Array.fromAsync(corpus.pieces(), ({ text }) => text), ["War", "Peace"]);
 * ```
 */
export async function openCorpus(
  path: string,
  { fileSystem = hostFileSystem(), sizes = {} }: FileSystemOptions & { readonly sizes?: CorpusSizes } = {},
): Promise<Corpus> {
  if (isRows(path)) return await corpusOfRows(await openRows(path, { kind: "text", fileSystem }), sizes);
  let size: number | null = null;
  async function* pieces(): AsyncGenerator<Piece, void, undefined> {
    await using file = await fileSystem.open(path);
    size ??= file.size;
    checkSize(path, { size: file.size, before: size });
    yield* piecesOf(withLineFeeds(readUtf8(file, { path, chunk: sizes.chunk })), sizes);
  }
  let length = 0, blank = true;
  for await (const { text } of pieces()) {
    length += text.length;
    blank &&= text.trim() === "";
  }
  if (blank) {
    throw new DataError(`Cannot read "${path}" as there must be text: it is empty; give another file`);
  }
  return { length, pieces };
}

/** Texts whose lines end as those of other systems than Windows, as Python reads them; a lone carriage return stays. */
async function* withLineFeeds(texts: AsyncIterable<string>): AsyncGenerator<string, void, undefined> {
  let held = "";
  for await (const text of texts) {
    const whole = held + text;
    held = whole.endsWith("\r") ? "\r" : "";
    yield whole.slice(0, whole.length - held.length).replaceAll("\r\n", "\n");
  }
  if (held !== "") yield held;
}

/**
 * Makes a corpus of rows.
 *
 * @param rows Rows of text
 * @param sizes Sizes of pieces
 * @returns A document for each row
 * @throws {FileError} When they have more than 2 GiB
 */
export async function corpusOfRows(rows: Rows<"text">, sizes: PieceSizes = {}): Promise<Corpus> {
  const bytes = rows.blocks.reduce((n, block) => n + block.bytes, 0);
  if (bytes > MOST_BYTES) throw tooLarge("the rows", bytes);
  async function* documents(): AsyncGenerator<string, void, undefined> {
    for (const block of rows.blocks.keys()) {
      for (const { example } of await rows.read(block)) yield example.text;
    }
  }
  let length = 0;
  for await (const text of documents()) length += text.length;
  return { length, pieces: () => documentPieces(documents(), sizes) };
}

/**
 * Makes a corpus of documents that are in memory.
 *
 * @param documents The documents, none blank
 * @returns The corpus
 * @throws {InputError} When there is no document, or one is blank
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { corpusOf } from "@firn/train/data";
 *
 * assertEquals(corpusOf(["War", "Peace"]).length, 8);
 * ```
 */
export function corpusOf(documents: readonly string[]): Corpus {
  if (documents.length === 0) {
    throw new InputError('Cannot make a corpus as "documents" is empty: give at least one');
  }
  const blank = documents.findIndex((text) => text.trim() === "");
  if (blank >= 0) {
    throw new InputError(
      `Cannot make a corpus as documents have text: number ${blank + 1} has none; leave it out`,
    );
  }
  return {
    length: documents.reduce((n, { length }) => n + length, 0),
    pieces: () => documentPieces(documents),
  };
}

/**
 * The pieces of several documents.
 *
 * @param documents The documents
 * @param sizes Sizes of pieces
 * @returns The pieces of each, in order
 */
export async function* documentPieces(
  documents: AsyncIterable<string> | Iterable<string>,
  sizes: PieceSizes = {},
): AsyncGenerator<Piece, void, undefined> {
  const { size = PIECE } = sizes;
  for await (const text of documents) {
    if (text.length <= size) yield { text, ends: true };
    else yield* piecesOf([text], sizes);
  }
}

function checkSize(path: string, { size, before }: { readonly size: number; readonly before: number }): void {
  if (size !== before) {
    throw new DataError(
      `Cannot read "${path}" as it must stay as it is while it is used: it had ${
        count(before)
      } bytes and has ${count(size)}; start again`,
    );
  }
  if (size > MOST_BYTES) throw tooLarge(path, size);
}

function tooLarge(path: string, size: number): FileError {
  return new FileError(
    `Cannot read "${path}" as text may have ${count(MOST_BYTES)} bytes: it has ${
      count(size)
    }; give a part of it`,
    { path, code: "EFBIG" },
  );
}

function count(n: number): string {
  return n.toLocaleString("en-US");
}
