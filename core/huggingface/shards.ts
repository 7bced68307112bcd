/**
 * The weights of a checkpoint folder: one file or the shards of an index.
 *
 * @module
 */

import { openSafetensors, type SafetensorsFile, type StoredSpec } from "../data/safetensors.ts";
import { invalid } from "../data/safetensors_header.ts";
import { InputError, NotFoundError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { readJson } from "../host/json_file.ts";
import { pathInFolder } from "../host/path_in_folder.ts";
import { INDEX, SINGLE } from "./split_shards.ts";

/** All are open at a time; systems allow 1024 files. */
const MOST_SHARDS = 900;

/**
 * Opens the weights of a checkpoint folder: `model.safetensors`, or the shards that
 * `model.safetensors.index.json` lists.
 *
 * @param folder The folder
 * @param options The file system
 * @returns All tensors as if of one file; dispose of it with `await using`
 * @throws {NotFoundError} When the folder has neither file, or lacks a shard
 * @throws {DataError} When a file is damaged, or index and shards disagree
 */
export async function openCheckpoint(
  folder: string,
  options: FileSystemOptions = {},
): Promise<SafetensorsFile> {
  const { fileSystem = hostFileSystem() } = options;
  const entries = new Set((await fileSystem.list(folder)).map(({ name }) => name));
  if (entries.has(SINGLE)) return await openSafetensors(await pathInFolder(folder, SINGLE, options), options);
  if (!entries.has(INDEX)) {
    throw new NotFoundError(
      `Cannot open "${folder}" as a checkpoint has ${SINGLE} or ${INDEX}: it has neither; ` +
        `convert the weights to safetensors, or check the path`,
    );
  }
  return await openShards(folder, options);
}

async function openShards(folder: string, options: FileSystemOptions): Promise<SafetensorsFile> {
  const index = await pathInFolder(folder, INDEX, options);
  const shardOf = new Map(Object.entries(weightMap(index, await readJson(index, options))));
  const names = new Set(shardOf.values());
  if (names.size > MOST_SHARDS) {
    throw invalid(
      index,
      `a checkpoint has at most ${MOST_SHARDS} shards`,
      `it lists ${names.size}; save it in larger ones`,
    );
  }
  const shards = new Map<string, SafetensorsFile>();
  // Node 22 has no AsyncDisposableStack.
  const close = async (): Promise<void> => {
    for (const shard of shards.values()) await shard[Symbol.asyncDispose]();
  };
  try {
    for (const shard of names) {
      shards.set(shard, await openSafetensors(await pathInFolder(folder, shard, options), options));
    }
    return { ...joined(folder, { index, shardOf, shards }), [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** All tensors of the shards, as the index lists them. */
function joined(
  folder: string,
  { index, shardOf, shards }: {
    readonly index: string;
    readonly shardOf: ReadonlyMap<string, string>;
    readonly shards: ReadonlyMap<string, SafetensorsFile>;
  },
): Omit<SafetensorsFile, typeof Symbol.asyncDispose> {
  const specs = new Map<string, StoredSpec>();
  for (const [shard, { names, specs: own }] of shards) {
    for (const name of names) {
      if (shardOf.get(name) !== shard) {
        const listed = shardOf.has(name) ? `under "${shardOf.get(name)}"` : "nowhere";
        throw invalid(
          index,
          "it must list every tensor of its shards",
          `"${name}" of "${shard}" is listed ${listed}`,
        );
      }
      specs.set(name, own.get(name)!);
    }
  }
  for (const [name, shard] of shardOf) {
    if (!specs.has(name)) {
      throw invalid(index, "its shards must have every tensor that it lists", `"${shard}" lacks "${name}"`);
    }
  }
  const fileOf = (name: string): SafetensorsFile => {
    const shard = shardOf.get(name);
    if (shard === undefined) {
      throw new InputError(
        `Cannot read tensor "${name}" as "${folder}" has none of that name: see its names`,
      );
    }
    return shards.get(shard)!;
  };
  return {
    path: folder,
    names: [...specs.keys()],
    metadata: shards.values().next().value?.metadata ?? {},
    specs,
    read: async (name, rows) => await fileOf(name).read(name, rows),
    readF32: async (name, rows) => await fileOf(name).readF32(name, rows),
  };
}

/** Checks what an index says: the file of each tensor. */
export function weightMap(
  index: string,
  { weight_map: map }: Record<string, unknown>,
): Record<string, string> {
  if (typeof map !== "object" || map === null || Array.isArray(map)) {
    throw invalid(index, '"weight_map" must map tensors to files', "it does not; get the file again");
  }
  for (const [name, shard] of Object.entries(map)) {
    if (typeof shard !== "string" || !/^[^\\/:]+\.safetensors$/.test(shard)) {
      throw invalid(
        index,
        "shards must be .safetensors files beside it",
        `${JSON.stringify(shard)} for "${name}" is not`,
      );
    }
  }
  return map as Record<string, string>;
}
