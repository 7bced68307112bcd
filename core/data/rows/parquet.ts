/**
 * Rows of Parquet files.
 *
 * @module
 */

import { DataError } from "../../errors.ts";
import type { OpenFile } from "../../host/file_system.ts";
import type { Row } from "./row.ts";

/** Bytes of the rows of a block, about. */
const BLOCK = 2 ** 25;

/** An open Parquet file. */
export interface ParquetFile {
  /** Blocks: the numbers of their rows, from 0, the end exclusive, and their bytes, about. */
  readonly blocks: readonly { readonly begin: number; readonly end: number; readonly bytes: number }[];
  /** Reads rows. */
  read(begin: number, end: number): Promise<readonly Row[]>;
}

/**
 * Reads the end of a Parquet file, which says where its rows are.
 *
 * @param file The file
 * @param path Its name, for errors
 * @returns Its blocks of rows
 * @throws {DataError} When it is damaged, or of a kind that is not supported
 */
export async function openParquet(file: OpenFile, path: string): Promise<ParquetFile> {
  const [{ parquetMetadataAsync, parquetReadObjects }, { compressors }] = await Promise.all([
    import("hyparquet"),
    import("hyparquet-compressors"),
  ]);
  const source = {
    byteLength: file.size,
    slice: async (begin: number, end: number = file.size) => (await file.read(begin, end)).buffer,
  };
  const metadata = await told(path, () => parquetMetadataAsync(source));
  const blocks: { begin: number; end: number; bytes: number }[] = [];
  let first = 0;
  for (const { num_rows, total_byte_size } of metadata.row_groups) {
    const rows = Number(num_rows), bytes = Number(total_byte_size);
    const parts = Math.max(1, Math.min(rows, Math.ceil(bytes / BLOCK)));
    for (let part = 0; part < parts; part++) {
      const begin = first + Math.floor(part * rows / parts),
        end = first + Math.floor((part + 1) * rows / parts);
      if (end > begin) blocks.push({ begin, end, bytes: bytes / parts });
    }
    first += rows;
  }
  return {
    blocks,
    async read(rowStart, rowEnd) {
      // Without "utf8", bytes that are not marked as text stay bytes.
      const options = { file: source, metadata, compressors, rowStart, rowEnd, utf8: false };
      const rows = await told(path, () => parquetReadObjects(options));
      return rows.map((row) => plain(row) as Row);
    },
  };
}

/** What the library throws is about the file. */
async function told<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw new DataError(
      `Cannot read "${path}" as it must be a Parquet file: ${(error as Error).message}; get the file again`,
      { cause: error },
    );
  }
}

/** Whole numbers of 64 bits as numbers where these are exact. */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value) || value instanceof Date) {
    return value;
  }
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}
