/**
 * The part of the origin private file system of browsers that is used, and its failures.
 *
 * @module
 */

import { FirnError } from "../errors.ts";
import { type Attempt, fileError, machineError } from "./file_errors.ts";

/** A file, as a `FileSystemFileHandle` is. */
export interface OpfsFile {
  /** Its name in its folder. */
  readonly name: string;
  /** The content as it is now; it cannot be read any more when the file changes. */
  getFile(): Promise<Blob>;
  /** Begins to write; the file changes when that is closed, as a whole. */
  createWritable(options?: { readonly keepExistingData?: boolean }): Promise<OpfsWritable>;
  /** Takes the place of what is there. Browsers have it, though no standard does. */
  move?(folder: OpfsFolder, name: string): Promise<unknown>;
}

/** Content of a file that is being written, as a `FileSystemWritableFileStream` is. */
export interface OpfsWritable {
  /** Writes at the cursor. */
  write(bytes: Uint8Array<ArrayBuffer>): Promise<unknown>;
  /** Moves the cursor. */
  seek(position: number): Promise<unknown>;
  /** Ends it: the file has what was written. */
  close(): Promise<unknown>;
  /** Ends it: the file stays as it was. */
  abort(): Promise<unknown>;
}

/** A folder, as a `FileSystemDirectoryHandle` is. */
export interface OpfsFolder {
  /** Its name; empty for the root of an origin. */
  readonly name: string;
  /** Finds a file. */
  getFileHandle(name: string, options?: { readonly create?: boolean }): Promise<OpfsFile>;
  /** Finds a folder. */
  getDirectoryHandle(name: string, options?: { readonly create?: boolean }): Promise<OpfsFolder>;
  /** Removes a file or a folder. */
  removeEntry(name: string, options?: { readonly recursive?: boolean }): Promise<unknown>;
  /** What is in it. */
  values(): AsyncIterable<{ readonly kind: "file" | "directory"; readonly name: string }>;
}

/** Locks of an origin, as a `LockManager` is. */
export interface OpfsLocks {
  /** Does work while a lock is held; with `ifAvailable`, a lock that is taken is null. */
  request<T>(
    name: string,
    options: { readonly mode?: "exclusive" | "shared"; readonly ifAvailable?: boolean },
    work: (lock: unknown) => Promise<T>,
  ): Promise<T>;
}

/** Codes of failures by the names of a browser. */
const CODES: Readonly<Record<string, string>> = {
  InvalidStateError: "ESTALE",
  NoModificationAllowedError: "EBUSY",
  NotAllowedError: "EACCES",
  NotFoundError: "ENOENT",
  NotReadableError: "NotReadable",
  QuotaExceededError: "EDQUOT",
  SecurityError: "EACCES",
};

/**
 * Does work of a browser; its failure becomes an error that names the path.
 *
 * @param attempt What is tried
 * @param work The work
 * @returns What it returns
 */
export async function inOpfs<T>(attempt: Attempt, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw opfsError(error, attempt);
  }
}

function opfsError(error: unknown, attempt: Attempt): unknown {
  if (error instanceof FirnError) return error;
  const name = error instanceof Error ? error.name : "";
  if (name === "TypeMismatchError") {
    const code = attempt.kind === "folder" ? "ENOTDIR" : "EISDIR";
    return fileError(code, { ...attempt, cause: error });
  }
  if (Object.hasOwn(CODES, name)) return fileError(CODES[name], { ...attempt, cause: error });
  return machineError(error, attempt);
}
