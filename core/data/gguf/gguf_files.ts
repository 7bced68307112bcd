/**
 * A GGUF file as the folder of Hugging Face that it could have been made from: its files of text.
 *
 * @module
 */

import type { FileSystemOptions } from "../../host/file_system.ts";
import { ggufConfig } from "./config.ts";
import { metadataFields } from "./metadata.ts";
import { openGguf } from "./open_gguf.ts";
import { tokenizerFiles } from "./tokenizer_files.ts";

/**
 * Makes the files of a model folder from a GGUF file: `config.json`, and those of the tokenizer where it has one.
 *
 * @param path The file
 * @param options The file system
 * @returns Content by name
 * @throws {DataError} When the file is damaged or of another kind
 */
export async function ggufFiles(
  path: string,
  options: FileSystemOptions = {},
): Promise<ReadonlyMap<string, string>> {
  await using file = await openGguf(path, options);
  const { source } = await ggufConfig(file);
  const files = { "config.json": source, ...tokenizerFiles(metadataFields(file.metadata, path)) };
  return new Map(Object.entries(files).map(([name, json]) => [name, JSON.stringify(json, null, 2) + "\n"]));
}
