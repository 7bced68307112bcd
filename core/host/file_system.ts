/**
 * The interface to files. Functions that read or write files take a file system, and use that of the machine by default.
 *
 * @module
 */

/** What a path leads to: a file, a folder, or something else, such as a device, a pipe or a socket. */
export type FileKind = "file" | "folder" | "other";

/** What lies in a folder. */
export interface Entry {
  /** Its name in the folder that holds it. */
  readonly name: string;
  /** What it is; a link is not followed. */
  readonly kind: FileKind | "link";
}

/** What is known of a path. */
export interface FileInfo {
  /** What it leads to; links are followed. */
  readonly kind: FileKind;
  /** Size in bytes of a file. */
  readonly size: number;
}

/** An open file. Its content stays the same when the path is overwritten. */
export interface OpenFile extends AsyncDisposable {
  /** Size in bytes when it was opened. */
  readonly size: number;
  /** Reads the bytes from `begin` to `end`, exclusive; fewer when the file ends earlier. */
  read(begin: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
}

/**
 * Content of a file: text, which is stored as UTF-8, bytes, or chunks of bytes. A chunk stays as it is until the next one is
 * asked for, no longer: whoever keeps it copies it.
 */
export type Content = string | Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/**
 * A file system: the machine's, one in memory, or one of your own. Parts of a path are separated by `/`.
 *
 * Every failure is a {@link FirnError} that names the path: a {@link NotFoundError}, an {@link AlreadyExistsError}, or a
 * {@link FileError} with the code of the system. Only files are opened: a device, a pipe or a socket is refused.
 */
export interface FileSystem {
  /**
   * Reads a whole file.
   *
   * @throws {NotFoundError} When there is no such file
   * @throws {FileError} When it has more than `limit` bytes; 1 GiB when absent
   */
  read(path: string, options?: { readonly limit?: number }): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * Opens a file to read parts of it.
   *
   * @throws {NotFoundError} When there is no such file
   */
  open(path: string): Promise<OpenFile>;
  /**
   * Writes a file atomically: a reader sees the old file or the new one. When writing fails, the old file stays as it
   * was. `bytes`: how many chunks will have in all, for the error of a full disk.
   *
   * @throws {FileError} When the machine refuses it, such as for a full disk
   */
  write(path: string, content: Content, options?: { readonly bytes?: number }): Promise<void>;
  /**
   * Appends to a file; creates it when it does not exist. With `flush`, it returns when everything in the file is on the
   * disk. When it fails, the file has what it had before.
   */
  append(
    path: string,
    content: string | Uint8Array,
    options?: { readonly flush?: boolean },
  ): Promise<void>;
  /** Says what a path leads to; null when it does not exist. */
  stat(path: string): Promise<FileInfo | null>;
  /**
   * Finds the path without links.
   *
   * @throws {NotFoundError} When it does not exist
   */
  realPath(path: string): Promise<string>;
  /**
   * Lists a folder.
   *
   * @throws {NotFoundError} When there is no such folder
   */
  list(folder: string): Promise<readonly Entry[]>;
  /** Makes a folder. With `parents`, missing parents are made too, and the folder may exist already. */
  makeFolder(path: string, options?: { readonly parents?: boolean }): Promise<void>;
  /**
   * Makes a link to a file where nothing is yet: a symbolic one, else, where those are not permitted, a hard one. Absent
   * where there are no links.
   *
   * @returns Whether it was made; false when neither kind is permitted
   * @throws {AlreadyExistsError} When something is there
   */
  link?(path: string, options: { readonly to: string }): Promise<boolean>;
  /** Moves a file or a folder to another path. */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file, or a folder with its content. */
  remove(path: string): Promise<void>;
  /**
   * Takes a lock: a file that is made when missing and then says who holds it. The lock ends when it is disposed of,
   * which removes the file, or with the process, however that ends.
   *
   * @returns The lock; null when it is taken
   */
  lock(path: string, holder: string): Promise<AsyncDisposable | null>;
}

/** Options of functions that read or write files. */
export interface FileSystemOptions {
  /** Where the files are; the machine's file system when absent. */
  readonly fileSystem?: FileSystem;
}

/** How many bytes `read` reads when nothing else is said. */
export const READ_LIMIT = 2 ** 30;

/** Content as chunks of bytes. */
export async function* chunksOf(content: Content): AsyncGenerator<Uint8Array, void, undefined> {
  if (typeof content === "string") yield new TextEncoder().encode(content);
  else if (content instanceof Uint8Array) yield content;
  else yield* content;
}
