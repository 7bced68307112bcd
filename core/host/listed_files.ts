/**
 * Folders that a list of files makes.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { Entry } from "./file_system.ts";

/** What lies in each folder, by path; the root is `""`. */
export type Folders = ReadonlyMap<string, ReadonlyMap<string, Entry>>;

/**
 * Makes the folders of files. Their names may be those of strangers.
 *
 * @param paths Paths of files
 * @param what What the files are, for errors
 * @returns What lies in each folder
 * @throws {InputError} When a path is none in a folder, is there twice, or is that of a folder, too
 */
export function foldersOf(paths: Iterable<string>, what: string): Folders {
  const folders = new Map<string, Map<string, Entry>>([["", new Map()]]);
  for (const path of paths) {
    const fail = (rule: string): InputError =>
      new InputError(
        `Cannot use "${shown(path)}" of ${what} as ${rule}; leave it out, or give it another name`,
      );
    const parts = path.split("/");
    if (parts.some((part) => part === "" || part === "." || part === ".." || /[\\\0]/.test(part))) {
      throw fail("a path must lead to a file below their folder: it does not");
    }
    let folder = "";
    for (const [i, name] of parts.entries()) {
      const kind = i === parts.length - 1 ? "file" : "folder", there = folders.get(folder)!.get(name);
      if (there !== undefined && (kind === "file" || there.kind === "file")) {
        throw fail("each path may be there once, as a file or as a folder: it is there again");
      }
      folders.get(folder)!.set(name, { name, kind });
      folder = i === 0 ? name : `${folder}/${name}`;
      if (kind === "folder" && !folders.has(folder)) folders.set(folder, new Map());
    }
  }
  return folders;
}

/** A name may hold what steers a terminal. */
const shown = (path: string): string => path.slice(0, 200).replace(/\p{Cc}/gu, "?");
