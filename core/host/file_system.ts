/**
 * The interface to files. Functions that read or write files take a file system, and use that of the machine by default.
 *
 * @module
 */

import { NotFoundError } from "../errors.ts";

/** A file or a folder. */
export interface Entry {
  /** Its name in the folder that holds it. */
  readonly name: string;
  /** Whether it is a folder. */
  readonly isFolder: boolean;
}

/** An open file. Its content stays the same when the path is overwritten. */
export interface OpenFile extends AsyncDisposable {
  /** Size in bytes when it was opened. */
  readonly size: number;
  /** Reads the bytes from `begin` to `end`, exclusive; fewer when the file ends earlier. */
  read(begin: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
}

/** Content of a file: text, which is stored as UTF-8, bytes, or chunks of bytes. */
export type Content = string | Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** A file system: the machine's, one in memory, or one of your own. Parts of a path are separated by `/`. */
export interface FileSystem {
  /**
   * Reads a whole file.
   *
   * @throws {NotFoundError} When there is no such file
   */
  read(path: string): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * Opens a file to read parts of it.
   *
   * @throws {NotFoundError} When there is no such file
   */
  open(path: string): Promise<OpenFile>;
  /**
   * Writes a file atomically: a reader sees the old file or the new one. When writing fails, the old file stays as it
   * was.
   */
  write(path: string, content: Content): Promise<void>;
  /** Appends to a file; creates it when it does not exist. */
  append(path: string, content: string | Uint8Array): Promise<void>;
  /** Says whether a path is a folder; null when it does not exist. */
  stat(path: string): Promise<Pick<Entry, "isFolder"> | null>;
  /**
   * Lists a folder.
   *
   * @throws {NotFoundError} When there is no such folder
   */
  list(folder: string): Promise<readonly Entry[]>;
  /** Makes a folder. With `parents`, missing parents are made too, and the folder may exist already. */
  makeFolder(path: string, options?: { readonly parents?: boolean }): Promise<void>;
  /** Moves a file or a folder to another path. */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file, or a folder with its content. */
  remove(path: string): Promise<void>;
}

/** Options of functions that read or write files. */
export interface FileSystemOptions {
  /** Where the files are; the machine's file system when absent. */
  readonly fileSystem?: FileSystem;
}

/** The error for a path that does not exist. */
export function notFound(path: string, kind: "file" | "folder", cause?: unknown): NotFoundError {
  return new NotFoundError(`Cannot open "${path}" as there is no such ${kind}: check the path`, { cause });
}

/** Content as chunks of bytes. */
export async function* chunksOf(content: Content): AsyncGenerator<Uint8Array, void, undefined> {
  if (typeof content === "string") yield new TextEncoder().encode(content);
  else if (content instanceof Uint8Array) yield content;
  else yield* content;
}
