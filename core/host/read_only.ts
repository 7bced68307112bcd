/**
 * File systems that are only read.
 *
 * @module
 */

import { type Attempt, fileError } from "./file_errors.ts";
import { type Entry, type FileInfo, type FileSystem, type OpenFile, READ_LIMIT } from "./file_system.ts";
import { checkSize } from "./limits.ts";
import { partsOf } from "./path_parts.ts";

/** Where files are read from. Paths have no `.` in them, and no `..`; the root is `""`. */
export interface ReadOnlySource {
  /** What errors put before a path; nothing when absent. */
  readonly prefix?: string;
  /** What a path leads to; null when there is nothing. */
  stat(path: string): Promise<FileInfo | null>;
  /** What lies in a folder; null when there is none. */
  list(folder: string): Promise<readonly Entry[] | null>;
  /** Opens a file; null when there is none. */
  open(path: string): Promise<OpenFile | null>;
  /** Reads a file of at most `limit` bytes; as `open` does when absent. */
  read?(path: string, limit: number): Promise<Uint8Array<ArrayBuffer> | null>;
}

/**
 * Makes a file system that is only read.
 *
 * @param source Where the files are
 * @returns The file system; what writes throws a {@link FileError}
 */
export function readOnlyFileSystem(source: ReadOnlySource): FileSystem {
  const { prefix = "" } = source;
  const pathOf = (attempt: Attempt): string => partsOf(attempt).join("/");
  // Methods are asynchronous so that their errors arrive as rejections.
  const refuse = (action: Attempt["action"]) =>
  // deno-lint-ignore require-await
  async (path: string): Promise<never> => {
    throw fileError("EROFS", { action, path });
  };
  const missing = async (path: string, attempt: Attempt): Promise<never> => {
    const folder = (await source.stat(path))?.kind === "folder";
    throw fileError(folder ? "EISDIR" : "ENOENT", { ...attempt, path: prefix + attempt.path });
  };
  const open = async (path: string): Promise<OpenFile> => {
    const attempt: Attempt = { action: "open", path, kind: "file" }, at = pathOf(attempt);
    return (at === "" ? null : await source.open(at)) ?? await missing(at, attempt);
  };
  return {
    async read(path, { limit = READ_LIMIT } = {}) {
      if (source.read !== undefined) {
        const attempt: Attempt = { action: "open", path, kind: "file" }, at = pathOf(attempt);
        return (at === "" ? null : await source.read(at, limit)) ?? await missing(at, attempt);
      }
      await using file = await open(path);
      checkSize(path, { size: file.size, limit });
      return await file.read(0, file.size);
    },
    open,
    stat: async (path) => await source.stat(pathOf({ action: "find", path })),
    async realPath(path) {
      const attempt: Attempt = { action: "find", path }, at = pathOf(attempt);
      if (await source.stat(at) === null) throw fileError("ENOENT", attempt);
      return at;
    },
    async list(path) {
      const attempt: Attempt = { action: "list", path, kind: "folder" }, at = pathOf(attempt);
      const entries = await source.list(at);
      if (entries !== null) return entries;
      throw fileError(await source.stat(at) === null ? "ENOENT" : "ENOTDIR", attempt);
    },
    write: refuse("write"),
    append: refuse("append to"),
    makeFolder: refuse("make"),
    rename: refuse("rename"),
    remove: refuse("remove"),
    lock: refuse("lock"),
  };
}
