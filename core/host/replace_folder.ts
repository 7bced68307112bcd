/**
 * Folders that are replaced as a whole.
 *
 * @module
 */

import { AlreadyExistsError } from "../errors.ts";
import type { FileSystem, FileSystemOptions } from "./file_system.ts";
import { hostFileSystem } from "./host_file_system.ts";

/**
 * Replaces a folder as a whole. First a temporary folder beside it is filled. Then the old folder is renamed, the new one
 * takes its path, and the old one is removed, so one complete version exists at any time. When the process dies between
 * the two renames, both remain beside the path, as `<folder>.<id>.old` and `<folder>.<id>.tmp`.
 *
 * @param folder The folder; its parent must exist
 * @param fill Writes the new content into the folder that it gets
 * @param options The file system
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
  { fileSystem = hostFileSystem() }: FileSystemOptions = {},
): Promise<void> {
  const path = folder.replace(/(?<=.)[\\/]+$/, "");
  const id = crypto.randomUUID();
  const [temporary, old] = [`${path}.${id}.tmp`, `${path}.${id}.old`];
  await fileSystem.makeFolder(temporary);
  let replaced = false;
  try {
    await fill(temporary);
    replaced = (await fileSystem.stat(path))?.isFolder ?? false;
    if (replaced) {
      await checkSuperseded(fileSystem, { old: path, fresh: temporary });
      await fileSystem.rename(path, old);
    }
    try {
      await fileSystem.rename(temporary, path);
    } catch (error) {
      if (replaced) await fileSystem.rename(old, path);
      throw error;
    }
  } catch (error) {
    await fileSystem.remove(temporary);
    throw error;
  }
  if (replaced) await fileSystem.remove(old);
}

/** Refuses to lose an entry that the old folder has and the new one does not. */
async function checkSuperseded(
  fileSystem: FileSystem,
  { old, fresh }: { readonly old: string; readonly fresh: string },
): Promise<void> {
  const kept = new Map((await fileSystem.list(fresh)).map(({ name, isFolder }) => [name, isFolder]));
  for (const { name, isFolder } of await fileSystem.list(old)) {
    if (kept.get(name) !== isFolder) {
      throw new AlreadyExistsError(
        `Cannot replace "${old}" as it holds "${name}", which would be lost: choose another folder or move it away`,
      );
    }
    if (isFolder) await checkSuperseded(fileSystem, { old: `${old}/${name}`, fresh: `${fresh}/${name}` });
  }
}
