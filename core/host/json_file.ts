/**
 * JSON files of a checkpoint folder.
 *
 * @module
 */

import { DataError } from "../errors.ts";
import { isRecord, plain } from "../json_rules.ts";
import type { FileSystemOptions } from "./file_system.ts";
import { hostFileSystem } from "./host_file_system.ts";

/** JSON of a model folder has 100 MB at most; the tokenizers of the largest vocabularies have 40 MB. */
const LIMIT = 100_000_000;

/** Lists and objects in lists and objects. */
const DEEPEST = plain(200);

/**
 * Reads a file that holds a JSON object.
 *
 * @param path The file
 * @param options The file system
 * @returns The object
 * @throws {NotFoundError} When there is no such file
 * @throws {FileError} When it has more than 100 MB
 * @throws {DataError} When it does not hold a JSON object
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readJson } from "@firn/train/data";
 *
 * assertEquals((await readJson("examples/models/sotu/config.json")).model_type, "llama");
 * ```
 */
export async function readJson(
  path: string,
  { fileSystem = hostFileSystem() }: FileSystemOptions = {},
): Promise<Record<string, unknown>> {
  const bytes = await fileSystem.read(path, { limit: LIMIT });
  const rule = `Cannot read "${path}" as it must be a JSON object in UTF-8`;
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new DataError(`${rule}: ${(error as Error).message}; get the file again`, { cause: error });
  }
  const fault = DEEPEST(value, "it");
  if (fault !== null) throw new DataError(`Cannot read "${path}" as ${fault}; get the file again`);
  if (!isRecord(value)) {
    throw new DataError(`${rule}: got ${JSON.stringify(value).slice(0, 40)}; get the file again`);
  }
  return value;
}
