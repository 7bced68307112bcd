/**
 * Which files of a folder are a model, and go to a hub.
 *
 * @module
 */

import { openSafetensors } from "../data/safetensors.ts";
import { NotFoundError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { readJson } from "../host/json_file.ts";
import { pathInFolder } from "../host/path_in_folder.ts";
import { isCompanion } from "./companions.ts";
import { isSetting } from "./download_model.ts";
import { checkModelFolder } from "./model_folder.ts";
import { weightMap } from "./shards.ts";

const WEIGHTS = /^(adapter_)?model(-\d+-of-\d+)?\.safetensors(\.index\.json)?$/;
const INDEX = "model.safetensors.index.json", ADAPTER = "adapter_config.json";

/** Whether a file holds weights that are loaded by its name, or lists those that do. */
const isWeights = (path: string): boolean => WEIGHTS.test(path);

/**
 * Whether a file of a repository would be loaded in place of pushed weights, or over them: an adapter is, where there is
 * its configuration.
 *
 * @param path The file of the repository
 * @param pushed Paths of the files that are pushed
 * @returns Whether it would
 */
export function isSuperseded(path: string, pushed: readonly string[]): boolean {
  const weights = pushed.filter((one) => one.endsWith(".safetensors"));
  if (weights.length === 0) return false;
  const isAdapter = weights.every((one) => one.startsWith("adapter_"));
  return isAdapter ? isWeights(path) && path.startsWith("adapter_") : isWeights(path) || path === ADAPTER;
}

/** What goes to a hub, and what stays. */
export interface ToPush {
  readonly files: readonly string[];
  readonly left: readonly string[];
}

/**
 * Lists the files of a model or an adapter.
 *
 * @param folder The folder
 * @param options The file system
 * @returns Their paths, and the entries of the folder that are none of them
 * @throws {NotFoundError} When there is no such folder, or it holds no model
 * @throws {DataError} When weights are damaged
 */
export async function filesToPush(folder: string, options: FileSystemOptions = {}): Promise<ToPush> {
  const { fileSystem = hostFileSystem() } = options;
  await checkModelFolder(folder, options);
  const files: string[] = [], left: string[] = [], entries = await fileSystem.list(folder);
  const names = entries.map(({ name }) => name), shards = new Set<string>();
  if (names.includes(INDEX)) {
    const index = await pathInFolder(folder, INDEX, options);
    for (const shard of Object.values(weightMap(index, await readJson(index, options)))) shards.add(shard);
  }
  const goes = (path: string): boolean =>
    isSetting(path) || isCompanion(path) || isWeights(path) || shards.has(path) || path === ADAPTER ||
    /^[^/]+\.gguf$/i.test(path);
  for (const { name, kind } of entries) {
    const inside = kind === "folder" ? await fileSystem.list(`${folder}/${name}`) : [];
    const paths = kind === "folder" ? inside.map((entry) => `${name}/${entry.name}`) : [name];
    const own = paths.filter(goes);
    files.push(...own);
    left.push(...own.length === 0 ? [name] : paths.filter((path) => !goes(path)));
  }
  const isModel = files.includes("config.json") || files.includes(ADAPTER) ||
    files.some((path) => /\.gguf$/i.test(path));
  const weights = files.filter((path) => path.endsWith(".safetensors"));
  const missing = [...shards].find((shard) => !files.includes(shard));
  if (
    !isModel || missing !== undefined || weights.length === 0 && files.every((path) => !/\.gguf$/i.test(path))
  ) {
    throw new NotFoundError(
      `Cannot push "${folder}" as a model has a config.json, or an adapter an adapter_config.json, and weights in ` +
        `safetensors: ${
          missing === undefined ? "it lacks one of them" : `it lacks "${missing}"`
        }; give the folder that has them`,
    );
  }
  for (const path of weights) {
    // Refused here, not by those who download it.
    await using _file = await openSafetensors(await pathInFolder(folder, path, options), options);
  }
  return { files: files.toSorted(), left: left.toSorted() };
}
