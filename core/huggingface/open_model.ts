/**
 * What a model is loaded from: a folder of Hugging Face, or a GGUF file.
 *
 * @module
 */

import { ggufConfig } from "../data/gguf/config.ts";
import { underNames } from "../data/gguf/checkpoint.ts";
import { findGguf } from "../data/gguf/find_gguf.ts";
import { openGguf } from "../data/gguf/open_gguf.ts";
import type { Weights } from "../data/weights.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { readJson } from "../host/json_file.ts";
import { pathInFolder } from "../host/path_in_folder.ts";
import { checkModelFiles, checkModelFolder } from "./model_folder.ts";
import { openCheckpoint } from "./shards.ts";

/** The configuration of a model, and a way to its weights. */
export interface ModelSource {
  /** Content of `config.json`. */
  readonly source: Readonly<Record<string, unknown>>;
  /** The file that it comes from, for errors. */
  readonly file: string;
  /** Opens the weights; dispose of them with `await using`. */
  open(): Promise<Weights>;
}

/**
 * Reads the configuration of a model.
 *
 * @param path A model folder, a GGUF file, or a folder with one
 * @param options The file system
 * @returns The configuration, and a way to the weights
 * @throws {NotFoundError} When there is no such model, or a file of it is missing
 * @throws {InputError} When it is a file of another kind
 * @throws {DataError} When a file is damaged
 */
export async function openModel(path: string, options: FileSystemOptions = {}): Promise<ModelSource> {
  const gguf = await findGguf(path, options);
  if (gguf === null) {
    await checkModelFolder(path, options);
    await checkModelFiles(path, options);
    const file = await pathInFolder(path, "config.json", options);
    return { source: await readJson(file, options), file, open: () => openCheckpoint(path, options) };
  }
  await using head = await openGguf(gguf, options);
  const { source, ...model } = await ggufConfig(head);
  return { source, file: gguf, open: async () => underNames(await openGguf(gguf, options), model) };
}
