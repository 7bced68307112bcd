/**
 * Which GGUF file a path stands for.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import type { FileSystemOptions } from "../../host/file_system.ts";
import { hostFileSystem } from "../../host/host_file_system.ts";
import { pathInFolder } from "../../host/path_in_folder.ts";

/**
 * Finds the GGUF file that a path stands for: the path of one, or a folder that has one and no `config.json`.
 *
 * @param path A file or a folder
 * @param options The file system
 * @returns Its path; null where there is none
 * @throws {InputError} When a folder has several
 */
export async function findGguf(
  path: string,
  options: FileSystemOptions = {},
): Promise<string | null> {
  const { fileSystem = hostFileSystem() } = options;
  const info = await fileSystem.stat(path);
  if (info === null) return null;
  if (info.kind !== "folder") return /\.gguf$/i.test(path) ? path : null;
  const names = (await fileSystem.list(path)).map(({ name }) => name);
  const found = names.filter((name) => /\.gguf$/i.test(name)).toSorted();
  if (found.length === 0 || names.some((name) => /^(adapter_)?config\.json$/.test(name))) return null;
  if (found.length === 1) return await pathInFolder(path, found[0], options);
  const seen = `it holds ${found.slice(0, 4).join(", ")}${found.length > 4 ? " and more" : ""}`;
  throw new InputError(
    `Cannot load "${path}" as a folder must hold one GGUF file: ${seen}; give the path of one`,
  );
}
