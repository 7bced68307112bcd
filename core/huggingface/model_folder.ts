/**
 * Model folders: what is refused before anything is read.
 *
 * @module
 */

import { InputError, NotFoundError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";

/**
 * Refuses what is no model folder, and says how to get one.
 *
 * @param folder The folder
 * @param options The file system
 * @throws {NotFoundError} When there is none
 * @throws {InputError} When it is a file
 */
export async function checkModelFolder(
  folder: string,
  { fileSystem = hostFileSystem() }: FileSystemOptions = {},
): Promise<void> {
  const rule = `Cannot load "${folder}" as a model is a folder of Hugging Face on this machine`;
  const info = await fileSystem.stat(folder);
  if (info === null) {
    const mend = /^[\w.-]+\/[\w.-]+$/.test(folder)
      ? `download it first (hf download ${folder} --local-dir DIR), or check the path`
      : "check the path";
    throw new NotFoundError(`${rule}: there is none; ${mend}`);
  }
  if (info.kind === "folder") return;
  const seen = /\.gguf$/i.test(folder)
    ? "a GGUF file is not read; give the folder it was made from"
    : "it is not a folder; give the folder that holds it";
  throw new InputError(`${rule}: ${seen}`);
}
