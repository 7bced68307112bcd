/**
 * Folders that are replaced as a whole.
 *
 * @module
 */

import { AlreadyExistsError } from "../errors.ts";
import { fileError } from "./file_errors.ts";
import type { FileSystem, FileSystemOptions } from "./file_system.ts";
import { hostFileSystem } from "./host_file_system.ts";
import { trimmedPath } from "./paths.ts";
import { finishReplacement, temporaryPath } from "./temporary.ts";

/** Options of {@link replaceFolder}. */
export interface ReplaceOptions extends FileSystemOptions {
  /** Whether a file of the old folder may go though the new one has none of its name; none may when absent. */
  readonly superseded?: (name: string) => boolean;
}

/**
 * Replaces a folder as a whole. First a temporary folder beside it is filled. Then the old folder is renamed, the new one
 * takes its path, and the old one is removed, so one complete version exists at any time. When the process dies between
 * the two renames, the next call for the same folder, or {@link lockFolder} of the folder that holds it, moves the new
 * one to its path.
 *
 * @param folder The folder; its parent must exist
 * @param fill Writes the new content into the folder that it gets
 * @param options The file system, and which files may go
 * @throws {AlreadyExistsError} When the old folder holds something that the new one lacks, which would be lost
 * @throws What `fill` throws; then the temporary folder is removed and the old folder stays as it was
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memoryFileSystem, replaceFolder } from "@firn/train/data";
 *
 * const fileSystem = memoryFileSystem({ "model/config.json": "{}" });
 * await replaceFolder("model", (folder) => fileSystem.write(`${folder}/config.json`, "[]"), { fileSystem });
 * assertEquals(new TextDecoder().decode(await fileSystem.read("model/config.json")), "[]");
 * ```
 */
export async function replaceFolder(
  folder: string,
  fill: (temporary: string) => Promise<void>,
  { fileSystem = hostFileSystem(), superseded = () => false }: ReplaceOptions = {},
): Promise<void> {
  const path = trimmedPath(folder);
  await finishReplacement(path, fileSystem);
  const there = await fileSystem.stat(path);
  if (there !== null && there.kind !== "folder") {
    throw fileError("ENOTDIR", { action: "write", path, kind: "folder" });
  }
  const { fresh, old } = temporaryPath(path);
  await fileSystem.makeFolder(fresh);
  let replaced = false;
  try {
    await fill(fresh);
    if (there !== null) await checkSuperseded(fileSystem, { old: path, fresh, superseded });
    if (there !== null) await fileSystem.rename(path, old);
    replaced = there !== null;
    await fileSystem.rename(fresh, path);
  } catch (error) {
    // The first error counts. What cannot be mended now is mended when the folder is replaced again.
    if (replaced) await fileSystem.rename(old, path).catch(() => {});
    await fileSystem.remove(fresh).catch(() => {});
    throw error;
  }
  // The new folder is in place. What cannot be removed now goes when the folder that holds it is locked again.
  if (replaced) await fileSystem.remove(old).catch(() => {});
}

/** Refuses to lose an entry that the old folder has and the new one does not. */
async function checkSuperseded(
  fileSystem: FileSystem,
  { old, fresh, superseded }: Required<Pick<ReplaceOptions, "superseded">> & {
    readonly old: string;
    readonly fresh: string;
  },
): Promise<void> {
  const kept = new Map((await fileSystem.list(fresh)).map(({ name, kind }) => [name, kind === "folder"]));
  for (const { name, kind } of await fileSystem.list(old)) {
    if (kept.get(name) !== (kind === "folder") && !(kind === "file" && superseded(name))) {
      throw new AlreadyExistsError(
        `Cannot replace "${old}" as it holds "${name}", which would be lost: choose another folder or move it away`,
      );
    }
    if (kind === "folder") {
      const never = { superseded: () => false };
      await checkSuperseded(fileSystem, { ...never, old: `${old}/${name}`, fresh: `${fresh}/${name}` });
    }
  }
}
