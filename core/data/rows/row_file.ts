/**
 * One file of rows, whatever its format, in blocks that can be read alone.
 *
 * @module
 */

import { DataError, InputError } from "../../errors.ts";
import { fingerprint } from "../../fingerprint.ts";
import type { FileSystem, OpenFile } from "../../host/file_system.ts";
import { blocksOf, MOST_RECORD, recordsOf, type Span } from "./blocks.ts";
import { openParquet } from "./parquet.ts";
import { delimitedReader, fieldsRow, parseItem, parseLine } from "./parse.ts";
import { delimitedLines, lines, listItems, type Records } from "./records.ts";
import type { Parsed, RowPlace } from "./row.ts";

/** A row or what is wrong with it, and where it stands. */
export interface PlacedParsed extends RowPlace {
  /** The row, or what is wrong with it. */
  readonly parsed: Parsed;
}

/** Part of a file. */
export interface FileBlock extends Span {
  /** Bytes of its rows, about. */
  readonly bytes: number;
}

/** A file of rows. */
export interface RowFile {
  /** Its blocks and their rows; a hash of what was read stands in `words`. */
  scan(): AsyncIterable<{
    readonly block: FileBlock;
    readonly rows: readonly PlacedParsed[];
    readonly hash: string;
  }>;
  /** The rows of a block once more. */
  read(block: FileBlock): Promise<readonly PlacedParsed[]>;
}

/** Formats by the end of a file's name. */
const FORMATS: ReadonlyMap<string, "lines" | "json" | "," | "\t" | "parquet" | "text"> = new Map([
  ["jsonl", "lines"],
  ["ndjson", "lines"],
  ["json", "json"],
  ["csv", ","],
  ["tsv", "\t"],
  ["parquet", "parquet"],
  ["txt", "text"],
  ["md", "text"],
]);

/** Whether a file holds rows, by its name; a file of text is one document. */
export function isRows(path: string): boolean {
  return !["text", undefined].includes(FORMATS.get(endOf(path)));
}

/** What follows the last dot of a name. */
function endOf(path: string): string {
  return /\.([^./]*)$/.exec(path)?.[1].toLowerCase() ?? "";
}

/**
 * Finds how a file holds its rows.
 *
 * @param path The file
 * @param fileSystem Where it is
 * @returns What reads it
 * @throws {InputError} When the end of its name is unknown
 */
export async function rowFile(path: string, fileSystem: FileSystem): Promise<RowFile> {
  const format = FORMATS.get(endOf(path));
  if (format === undefined) {
    if ((await fileSystem.stat(path))?.kind === "folder") {
      throw new InputError(
        `Cannot read rows of "${path}" as it must be a file: it is a folder; name its files, such as "${path}/*.jsonl"`,
      );
    }
    throw new InputError(
      `Cannot read rows of "${path}" as its name must end in ${
        [...FORMATS.keys()].map((end) => `.${end}`).join(", ")
      }: rename or convert it`,
    );
  }
  if (format === "parquet") return parquetRows(path, fileSystem);
  if (format === "text") return textFile(path, fileSystem);
  if (format === "lines" || format === "json") {
    return jsonRows(path, fileSystem, { list: await beginsList(path, fileSystem) });
  }
  return await delimitedRows(path, fileSystem, format);
}

/** Whether a file begins with a list; others have an object a line. Either is called `.json` and `.jsonl`. */
async function beginsList(path: string, fileSystem: FileSystem): Promise<boolean> {
  await using file = await fileSystem.open(path);
  const text = new TextDecoder().decode(await file.read(0, Math.min(file.size, 4096)));
  return /^\s*\[/.test(text);
}

/** How the records of a file become rows. */
interface TextFormat {
  /** Finds records, from some byte on. */
  records(begin: number): Records;
  /** Where the first record begins, after a mark of the encoding and a header. */
  readonly begin: number;
  readonly line: number;
  /** Rows of records; null for a record that is none. `first`: whether the first one begins the file. */
  parse(texts: readonly string[], first: boolean): readonly (Parsed | null)[];
  /** Refuses a file that ends too early, once all is read. `last`: its last bytes. */
  checkEnd?(last: Uint8Array): void;
}

function jsonRows(path: string, fileSystem: FileSystem, { list }: { readonly list: boolean }): RowFile {
  const open = (file: OpenFile) => mark(file);
  return textRows(path, fileSystem, async (file) => {
    const begin = await open(file);
    if (!list) return { records: lines, begin, line: 1, parse: (texts) => texts.map(parseLine) };
    return {
      records: (from) => listItems(from === begin ? 0 : 1),
      begin,
      line: 1,
      parse: (texts, first) => texts.map((text, i) => parseItem(text, first && i === 0)),
      checkEnd(last) {
        // They may begin inside a character.
        if (new TextDecoder().decode(last).trimEnd().endsWith("]")) return;
        throw new DataError(
          `Cannot read "${path}" as its list must end with "]": it is cut; get the file again`,
        );
      },
    };
  });
}

async function delimitedRows(path: string, fileSystem: FileSystem, usual: string): Promise<RowFile> {
  const delimiter = await delimiterOf(path, fileSystem, usual);
  const read = await delimitedReader(delimiter);
  return textRows(path, fileSystem, async (file) => {
    const begin = await mark(file), records = () => delimitedLines(delimiter);
    for await (const { bytes } of blocksOf(file, { path, records: records(), begin, line: 1, size: 1 })) {
      const text = decode(bytes);
      if (text === null) {
        throw new DataError(
          `Cannot read "${path}" as text must be UTF-8: its first line is not; save it as UTF-8`,
        );
      }
      const [fields] = read([text]);
      const header = typeof fields === "string" ? [] : fields.map((name) => name.trim());
      // A column without a name, such as the numbers of rows that pandas writes, cannot be asked for.
      const names = header.filter((name) => name !== "");
      if (names.length === 0 || new Set(names).size < names.length) {
        throw new DataError(
          `Cannot read "${path}" as its first line must name the columns, each once: it is "${
            text.trim().slice(0, 60)
          }"; put names there`,
        );
      }
      const line = 1 + bytes.filter((byte) => byte === 10).length;
      return {
        records,
        begin: begin + bytes.length,
        line,
        parse: (texts) => read(texts).map((row) => fieldsRow(row, header)),
      };
    }
    return { records, begin, line: 1, parse: () => [] };
  });
}

/** The delimiter: a semicolon, as spreadsheets write in many countries, where the first line has one and not the usual. */
async function delimiterOf(path: string, fileSystem: FileSystem, usual: string): Promise<string> {
  await using file = await fileSystem.open(path);
  const text = new TextDecoder().decode(await file.read(0, Math.min(file.size, 2 ** 16)));
  const [first] = text.replace(/"[^"]*"/g, "").split("\n");
  return !first.includes(usual) && first.includes(";") ? ";" : usual;
}

/** Where a file begins after U+FEFF, which marks its encoding. */
async function mark(file: OpenFile): Promise<number> {
  const [a, b, c] = await file.read(0, Math.min(3, file.size));
  return a === 0xef && b === 0xbb && c === 0xbf ? 3 : 0;
}

function textRows(
  path: string,
  fileSystem: FileSystem,
  formatOf: (file: OpenFile) => Promise<TextFormat>,
): RowFile {
  let size: number | null = null, format: TextFormat | null = null;
  async function open(): Promise<OpenFile> {
    const file = await fileSystem.open(path);
    size ??= file.size;
    if (file.size !== size) {
      await file[Symbol.asyncDispose]();
      throw changed(path);
    }
    format ??= await formatOf(file);
    return file;
  }
  function rowsOf(bytes: Uint8Array, { begin, line }: Span): readonly PlacedParsed[] {
    const records = recordsOf(bytes, { records: format!.records(begin), line });
    const texts = records.map((record) => decode(record.bytes));
    const parsed = format!.parse(texts.map((text) => text ?? ""), begin === format!.begin);
    return records.flatMap(({ line }, i): PlacedParsed[] => {
      const row = texts[i] === null ? "text must be UTF-8" : parsed[i];
      return row === null ? [] : [{ file: path, unit: "line", line, parsed: row }];
    });
  }
  return {
    async *scan() {
      await using file = await open();
      const { begin, line, records } = format!;
      let last: Uint8Array = new Uint8Array();
      for await (const span of blocksOf(file, { path, records: records(begin), begin, line })) {
        last = span.bytes;
        const block = { begin: span.begin, end: span.end, line: span.line, bytes: span.end - span.begin };
        yield { block, rows: rowsOf(span.bytes, span), hash: hashOf(span.bytes) };
      }
      format!.checkEnd?.(last.subarray(-4096));
    },
    async read(block) {
      await using file = await open();
      const bytes = await file.read(block.begin, block.end);
      if (bytes.length < block.end - block.begin) throw changed(path);
      return rowsOf(bytes, block);
    },
  };
}

/** A file that is one row: its text. */
function textFile(path: string, fileSystem: FileSystem): RowFile {
  const read = async (): Promise<
    { readonly bytes: Uint8Array<ArrayBuffer>; readonly rows: PlacedParsed[] }
  > => {
    const bytes = await fileSystem.read(path, { limit: MOST_RECORD }), text = decode(bytes);
    const parsed = text === null ? "text must be UTF-8" : { text: text.replace(/^\ufeff/, "") };
    return { bytes, rows: [{ file: path, unit: "line", line: 1, parsed }] };
  };
  return {
    async *scan() {
      const { bytes, rows } = await read();
      yield {
        block: { begin: 0, end: bytes.length, line: 1, bytes: bytes.length },
        rows,
        hash: hashOf(bytes),
      };
    },
    async read({ end }) {
      const { bytes, rows } = await read();
      if (bytes.length !== end) throw changed(path);
      return rows;
    },
  };
}

function parquetRows(path: string, fileSystem: FileSystem): RowFile {
  const rowsIn = async (file: OpenFile, { begin, end }: { readonly begin: number; readonly end: number }) => {
    const rows = await (await openParquet(file, path)).read(begin, end);
    return rows.map((parsed, i): PlacedParsed => ({ file: path, unit: "row", line: begin + i + 1, parsed }));
  };
  return {
    async *scan() {
      await using file = await fileSystem.open(path);
      const { blocks } = await openParquet(file, path);
      let hash = "";
      for (let at = 0; at < file.size; at += 2 ** 20) {
        hash = fingerprint([...hash].map((c) => c.charCodeAt(0)).concat(0));
        hash += hashOf(await file.read(at, Math.min(at + 2 ** 20, file.size)));
      }
      for (const block of blocks) {
        yield { block: { ...block, line: block.begin + 1 }, rows: await rowsIn(file, block), hash };
      }
    },
    async read(block) {
      await using file = await fileSystem.open(path);
      return await rowsIn(file, block);
    },
  };
}

function changed(path: string): DataError {
  return new DataError(
    `Cannot read "${path}" as it must stay as it is while it is used: its size has changed; start again`,
  );
}

/** The text of bytes; null when they are not UTF-8. */
function decode(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** A hash of bytes. */
function hashOf(bytes: Uint8Array<ArrayBuffer>): string {
  const words = Math.floor(bytes.length / 4), whole = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return fingerprint([
    new Uint32Array(whole.buffer, whole.byteOffset, words),
    Uint32Array.from(bytes.subarray(4 * words)),
  ]);
}
