/**
 * What Firn asks of a file system. Everything that reads or writes files takes one, or uses that of the machine.
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

/** An open file. It keeps its content when another file takes its path. */
export interface OpenFile extends AsyncDisposable {
  /** Size in bytes when it was opened. */
  readonly size: number;
  /** Reads the bytes from `begin` up to `end`; fewer where the file ends before. */
  read(begin: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
}

/** What is written: text in UTF-8, bytes, or pieces of bytes one after the other. */
export type Content = string | Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** A file system: that of the machine, one in memory, or one of your own. Paths are separated by `/`. */
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
   * Writes a file whole or not at all: a reader sees the old file or the new one. When it throws, the old file is as
   * it was.
   */
  write(path: string, content: Content): Promise<void>;
  /** Adds to the end of a file, which is made when it does not exist. */
  append(path: string, content: string | Uint8Array): Promise<void>;
  /** Says whether a path is a folder; null when nothing is there. */
  stat(path: string): Promise<Pick<Entry, "isFolder"> | null>;
  /**
   * Lists a folder.
   *
   * @throws {NotFoundError} When there is no such folder
   */
  list(folder: string): Promise<readonly Entry[]>;
  /** Makes a folder, and with `parents` what is missing above it. Without, its parent must exist and it must not. */
  makeFolder(path: string, options?: { readonly parents?: boolean }): Promise<void>;
  /** Gives a file or a folder another path. */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file, or a folder with all that is in it. */
  remove(path: string): Promise<void>;
}

/** Options of everything that reads or writes files. */
export interface FileSystemOptions {
  /** Where the files are; the file system of the machine when absent. */
  readonly fileSystem?: FileSystem;
}

/** The error of a path where nothing is. */
export function notFound(path: string, kind: "file" | "folder", cause?: unknown): NotFoundError {
  return new NotFoundError(`Cannot open "${path}" as there is no such ${kind}: check the path`, { cause });
}

/** The pieces of a content, as bytes. */
export async function* piecesOf(content: Content): AsyncGenerator<Uint8Array, void, undefined> {
  if (typeof content === "string") yield new TextEncoder().encode(content);
  else if (content instanceof Uint8Array) yield content;
  else yield* content;
}
