/**
 * Files of a folder that came from elsewhere.
 *
 * @module
 */

import { DataError } from "../errors.ts";
import type { FileSystemOptions } from "./file_system.ts";
import { hostFileSystem } from "./host_file_system.ts";

/** A folder of a model in the cache of Hugging Face: `models--owner--name/snapshots/revision`. */
const SNAPSHOT = /^((.*)[\\/](?:models|datasets|spaces)--[^\\/]+)[\\/]snapshots[\\/][^\\/]+$/;

/**
 * Finds a file of a folder, and refuses a link that leads out of it: a folder that was downloaded must not bring in other
 * files of the machine. One kind of link may lead out, that of the cache of Hugging Face, where the files of
 * `models--owner--name/snapshots/revision` are links to `models--owner--name/blobs/hash`, and these, since version 1.33 of
 * `huggingface_hub`, to `blobs/ha/hash`, which repositories share.
 *
 * @param folder The folder
 * @param name Name of the file in it, or its path from there
 * @param options The file system
 * @returns The path to open
 * @throws {NotFoundError} When there is no such file
 * @throws {DataError} When it lies outside of the folder
 *
 * @example
 * ```ts
 * import { assertEquals, assertRejects } from "@std/assert";
 * import { DataError } from "@firn/train";
 * import { memoryFileSystem, pathInFolder } from "@firn/train/data";
 *
 * const fileSystem = memoryFileSystem({ "model/config.json": "{}", "secret": "" });
 * assertEquals(await pathInFolder("model", "config.json", { fileSystem }), "model/config.json");
 * await assertRejects(() => pathInFolder("model", "../secret", { fileSystem }), DataError);
 * ```
 */
export async function pathInFolder(
  folder: string,
  name: string,
  { fileSystem = hostFileSystem() }: FileSystemOptions = {},
): Promise<string> {
  const place = folder.replace(/(?<=.)[\\/]+$/, "");
  const path = `${place}/${name}`;
  const fail = (seen: string) =>
    new DataError(
      `Cannot open "${path}" as a file of a folder must lie in it: ${seen}; put a copy of the file there`,
    );
  if (name === "" || /^[\\/]|^[a-z]:/i.test(name) || name.split(/[\\/]/).includes("..")) {
    throw fail(`"${name}" leads out of it`);
  }
  const [root, real] = [await fileSystem.realPath(place), await fileSystem.realPath(path)];
  if (within(root, real) || blobsOf(root).some((blobs) => within(blobs, real))) return path;
  throw fail(`it is a link to "${real}"`);
}

const blobsOf = (folder: string): readonly string[] =>
  SNAPSHOT.exec(folder)?.slice(1).map((place) => `${place}/blobs`) ?? [];

function within(folder: string, path: string): boolean {
  const plain = (text: string): string => text.replaceAll("\\", "/").replace(/\/+$/, "");
  return folder === "" || plain(path).startsWith(`${plain(folder)}/`);
}
