/**
 * Rows of files that may be larger than the memory.
 *
 * @module
 */

import { DataError, FirnError, InputError } from "../../errors.ts";
import { fingerprint, wordsOf } from "../../fingerprint.ts";
import type { FileSystemOptions } from "../../host/file_system.ts";
import { hostFileSystem } from "../../host/host_file_system.ts";
import { type Columns, type ExampleKind, type ExampleOf, exampleOf, kindOf, withColumns } from "./example.ts";
import { filesOf } from "./glob.ts";
import { type Row, RowError, type RowPlace } from "./row.ts";
import { type FileBlock, type PlacedParsed, type RowFile, rowFile } from "./row_file.ts";

/** An example and where it stands. */
export interface Placed<K extends ExampleKind = ExampleKind> extends RowPlace {
  /** The example. */
  readonly example: ExampleOf<K>;
}

/** Rows in blocks, each of which can be read by itself. */
export interface Rows<K extends ExampleKind = ExampleKind> {
  /** What the rows are. */
  readonly kind: K;
  /** Rows that can be used. */
  readonly count: number;
  /** Rows that are left out as they cannot be used, as `skipBadRows` allows. */
  readonly skipped: number;
  /** Fingerprint of the files and of how they are read. */
  readonly fingerprint: string;
  /** Rows and bytes of each block. */
  readonly blocks: readonly { readonly count: number; readonly bytes: number }[];
  /** Reads the rows of a block, by its index. */
  read(block: number): Promise<readonly Placed<K>[]>;
}

/** Options of {@link openRows}. */
export interface OpenRowsOptions<K extends ExampleKind = ExampleKind> extends FileSystemOptions {
  /** What the rows are; what the columns of the first one say when absent. */
  readonly kind?: K;
  /** The column that each name is taken from, such as `{ prompt: "question" }`; a dot leads into an object. */
  readonly columns?: Columns;
  /** Rows that may be left out as they cannot be used; 0 when absent. */
  readonly skipBadRows?: number;
}

/**
 * Opens rows. All are read once, so that what is wrong with one comes out before any work is done, and again when they are
 * needed. Of a file no more than a block of about 256 KB is in memory; a Parquet file is read in blocks of about 32 MB.
 *
 * A row is what its columns say: `text`; `prompt` and `completion`, or Alpaca's `instruction`, `input` and `output`;
 * `messages`, or ShareGPT's `conversations`; `chosen` and `rejected`; `image`. With `kind: "label"` it is a `text` and its
 * `label`.
 *
 * @param source Paths or patterns of `.jsonl`, `.json`, `.csv`, `.tsv`, `.parquet` and `.txt` files
 * @param options What is a row, and the file system
 * @returns The rows
 * @throws {NotFoundError} When a file is missing, or a pattern matches none
 * @throws {RowError} When a row cannot be used, and no more may be left out; it names the file and the line
 * @throws {DataError} When a file is damaged, or there is no row
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memoryFileSystem, openRows } from "@firn/train/data";
 *
 * const fileSystem = memoryFileSystem({ "qa.csv": 'question,answer\n"2 + 2, in words?",four\n' });
 * const columns = { prompt: "question", completion: "answer" };
 * const rows = await openRows("*.csv", { columns, fileSystem });
 * assertEquals([rows.kind, rows.count], ["completion", 1]);
 * const [{ example, line }] = await rows.read(0);
 * assertEquals([example, line], [{ kind: "completion", prompt: "2 + 2, in words?", completion: "four" }, 2]);
 * ```
 */
export async function openRows<K extends ExampleKind = ExampleKind>(
  source: string | readonly string[],
  { kind: wanted, columns = {}, skipBadRows = 0, fileSystem = hostFileSystem() }: OpenRowsOptions<K> = {},
): Promise<Rows<K>> {
  if (!(Number.isSafeInteger(skipBadRows) && skipBadRows >= 0)) {
    throw new InputError(
      `Cannot open rows as "skipBadRows" must be a whole number from 0: got ${skipBadRows}`,
    );
  }
  const patterns = typeof source === "string" ? [source] : source;
  const paths = (await Promise.all(patterns.map((pattern) => filesOf(pattern, fileSystem)))).flat();
  const blocks: { readonly file: RowFile; readonly block: FileBlock; readonly count: number }[] = [];
  const bad: RowError[] = [], hashes: string[] = [];
  let kind: ExampleKind | undefined = wanted;
  function use(placed: PlacedParsed): Placed<K> | RowError {
    const { parsed, ...place } = placed;
    if (typeof parsed === "string") return new RowError(place, parsed);
    let row = parsed;
    try {
      row = withColumns(parsed, columns);
      kind ??= kindOf(row, columns);
      return { ...place, example: exampleOf(row, kind) as ExampleOf<K> };
    } catch (error) {
      if (!(error instanceof FirnError)) throw error;
      // A whole row of another kind comes from another file as a rule, not from a slip.
      const other = wanted === undefined && kind !== undefined ? otherKind(row, { kind, columns }) : null;
      const rule = other === null
        ? error.message
        : `all rows must be of one kind: it is of kind ${other}, and those before are of kind ${kind}; ` +
          "mix files of several kinds by weights";
      return new RowError(place, rule, { cause: error });
    }
  }
  for (const path of paths) {
    const file = await rowFile(path, fileSystem);
    for await (const { block, rows, hash } of file.scan()) {
      let count = 0;
      for (const row of rows) {
        const used = use(row);
        if (!(used instanceof RowError)) count++;
        else if (bad.push(used) > skipBadRows) throw tooMany(bad);
      }
      hashes.push(hash);
      if (count > 0) blocks.push({ file, block, count });
    }
  }
  if (kind === undefined || blocks.length === 0) {
    const seen = bad.length > 0
      ? `all ${bad.length} are skipped, the first as ${bad[0].rule}`
      : "there is none";
    throw new DataError(
      `Cannot read "${patterns.join('", "')}" as there must be a row: ${seen}; give more rows`,
    );
  }
  return {
    kind: kind as K,
    count: blocks.reduce((n, { count }) => n + count, 0),
    skipped: bad.length,
    fingerprint: fingerprint(hashes.concat(kind, JSON.stringify(columns)).map(wordsOf)),
    blocks: blocks.map(({ block, count }) => ({ count, bytes: block.bytes })),
    async read(index) {
      const { file, block } = blocks[index];
      return (await file.read(block)).map(use).filter((row) => !(row instanceof RowError)) as Placed<K>[];
    },
  };
}

/** The kind of a row that is not of the kind that was wanted; null where it is of none. */
function otherKind(
  row: Row,
  { kind, columns }: { readonly kind: ExampleKind; readonly columns: Columns },
): ExampleKind | null {
  try {
    const other = kindOf(row, columns);
    exampleOf(row, other);
    return other === kind ? null : other;
  } catch (error) {
    if (error instanceof FirnError) return null;
    throw error;
  }
}

function tooMany(bad: readonly RowError[]): RowError {
  const last = bad.at(-1)!;
  if (bad.length === 1) return last;
  return new RowError(last.place, `it is bad row ${bad.length}, one more than may be skipped: ${last.rule}`);
}
