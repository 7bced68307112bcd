/**
 * Paths in the file system of a site.
 *
 * @module
 */

import { type Attempt, fileError } from "./file_errors.ts";
import type { OpfsFile, OpfsFolder } from "./opfs_handles.ts";
import { partsOf } from "./path_parts.ts";

/** What a path leads to: one of both. */
export type Found =
  | { readonly file: OpfsFile; readonly folder?: undefined }
  | { readonly file?: undefined; readonly folder: OpfsFolder };

/** A name in a folder; something may be there. */
export interface Place {
  /** The folder. */
  readonly folder: OpfsFolder;
  /** The name. */
  readonly name: string;
}

/** What a path leads to; null when there is nothing. */
export async function entryAt(root: OpfsFolder, parts: readonly string[]): Promise<Found | null> {
  let found: Found | null = { folder: root };
  for (const part of parts) {
    if (found?.folder === undefined) return null;
    found = await childOf(found.folder, part);
  }
  return found;
}

async function childOf(folder: OpfsFolder, name: string): Promise<Found | null> {
  try {
    return { file: await folder.getFileHandle(name) };
  } catch (error) {
    const { name: kind } = error as Error;
    if (kind === "NotFoundError") return null;
    if (kind !== "TypeMismatchError") throw error;
  }
  return { folder: await folder.getDirectoryHandle(name) };
}

/** The folder at a path. */
export async function folderAt(
  root: OpfsFolder,
  parts: readonly string[],
  attempt: Attempt,
): Promise<OpfsFolder> {
  const found = await entryAt(root, parts);
  if (found === null) throw fileError("ENOENT", attempt);
  if (found.folder === undefined) throw fileError("ENOTDIR", attempt);
  return found.folder;
}

/** The folder that holds a path, which must exist, and the name in it. */
export async function parentAt(root: OpfsFolder, attempt: Attempt): Promise<Place> {
  const parts = partsOf(attempt), name = parts.pop();
  if (name === undefined) throw fileError("EINVAL", attempt);
  return { folder: await folderAt(root, parts, attempt), name };
}
