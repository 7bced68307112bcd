/**
 * Model folders: what is refused before anything is read.
 *
 * @module
 */

import { InputError, NotFoundError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { otherWeights } from "./other_weights.ts";
import { WEIGHTS } from "./split_shards.ts";

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
    const mend = /^\w[\w.-]*\/\w[\w.-]*$/.test(folder)
      ? `bring it here with await downloadModel("${folder}"), or check the path`
      : "check the path";
    throw new NotFoundError(`${rule}: there is none; ${mend}`);
  }
  if (info.kind === "folder") return;
  throw new InputError(`${rule}, or a GGUF file: it is neither; give the folder that holds it`);
}

/**
 * Refuses a folder without the files of a model, and says what it holds instead.
 *
 * @param folder The folder
 * @param options The file system
 * @throws {NotFoundError} When `config.json` is missing, or the weights are not safetensors
 */
export async function checkModelFiles(
  folder: string,
  { fileSystem = hostFileSystem() }: FileSystemOptions = {},
): Promise<void> {
  const names = (await fileSystem.list(folder)).map(({ name }) => name);
  const safe = names.some((name) => WEIGHTS.test(name)), other = safe ? null : otherWeights(folder, names);
  const fail = (rule: string, seen: string) =>
    new NotFoundError(`Cannot load "${folder}" as ${rule}: ${seen}`);
  const adapter = names.includes("adapter_config.json");
  if (other !== null && !adapter) throw fail("weights must be safetensors", other);
  if (!names.includes("config.json")) {
    const seen = adapter
      ? "it holds an adapter; load its base model, then the adapter with loadAdapter"
      : "it has none; give the folder that has it, or download the model again";
    throw fail("a model folder has a config.json", seen);
  }
}

/**
 * Refuses the folder of an adapter whose tensors are in a file of another kind.
 *
 * @param folder The folder
 * @param options The file system
 * @throws {NotFoundError} When its tensors are not safetensors
 */
export async function checkAdapterFiles(
  folder: string,
  { fileSystem = hostFileSystem() }: FileSystemOptions = {},
): Promise<void> {
  const names = (await fileSystem.list(folder)).map(({ name }) => name);
  const other = names.includes("adapter_model.safetensors") ? null : otherWeights(folder, names);
  if (other !== null) {
    throw new NotFoundError(`Cannot load "${folder}" as an adapter must be safetensors: ${other}`);
  }
}
