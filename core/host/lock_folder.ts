/**
 * Folders that one run uses at a time.
 *
 * @module
 */

import { FileError } from "../errors.ts";
import type { FileSystem, FileSystemOptions } from "./file_system.ts";
import { hostFileSystem } from "./host_file_system.ts";
import { joined, trimmedPath } from "./paths.ts";
import { processName } from "./process_name.ts";
import { removeLeftovers } from "./temporary.ts";

/** Name of the file that is the lock of its folder. */
export const LOCK_FILE = ".firn.lock";

/**
 * Takes a folder for one run. The lock ends with its process, also when that is killed. What a dead run left is put in
 * order: temporary files are removed, and the replacement of a folder that was cut short is finished.
 *
 * @param folder An existing folder; whatever writes in it must hold its lock
 * @param options The file system
 * @returns The lock; release it with `await using`
 * @throws {FileError} When another run has the folder; it names the process and its host
 * @throws {NotFoundError} When there is no such folder
 *
 * @example
 * ```ts
 * import { assertRejects } from "@std/assert";
 * import { FileError } from "@firn/train";
 * import { lockFolder, memoryFileSystem } from "@firn/train/data";
 *
 * const fileSystem = memoryFileSystem({ "out/metrics.jsonl": "" });
 * {
 *   await using _lock = await lockFolder("out", { fileSystem });
 *   await assertRejects(() => lockFolder("out", { fileSystem }), FileError, "one run at a time");
 * }
 * await using _lock = await lockFolder("out", { fileSystem });
 * ```
 */
export async function lockFolder(
  folder: string,
  { fileSystem = hostFileSystem() }: FileSystemOptions = {},
): Promise<AsyncDisposable> {
  const place = trimmedPath(folder), path = joined(place, LOCK_FILE);
  const lock = await fileSystem.lock(path, `${await processName()} since ${new Date().toISOString()}\n`);
  if (lock === null) {
    const holder = await holderOf(path, fileSystem) || "another process";
    const mend = "wait until it ends, end it, or choose another folder";
    throw new FileError(
      `Cannot use "${place}" as one run at a time uses a folder: ${holder} has it; ${mend}`,
      {
        path: place,
        code: "ELOCKED",
      },
    );
  }
  try {
    await removeLeftovers(place, fileSystem);
  } catch (error) {
    await lock[Symbol.asyncDispose]();
    throw error;
  }
  return lock;
}

/** Who has a lock, as its file says; nothing where the system lets only the holder read it, as Windows does. */
async function holderOf(path: string, fileSystem: FileSystem): Promise<string> {
  try {
    const bytes = await fileSystem.read(path, { limit: 1000 });
    // The file is data: nothing in it may steer a terminal.
    return new TextDecoder().decode(bytes).replace(/[^\x20-\x7e]/g, "");
  } catch (error) {
    if (error instanceof FileError) return "";
    throw error;
  }
}
