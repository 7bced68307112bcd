/**
 * The file system of the machine.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { denoFileSystem } from "./deno_file_system.ts";
import type { FileSystem } from "./file_system.ts";

/**
 * Finds the file system of the machine. It is looked up when a file is used, not when a module is loaded.
 *
 * @returns The file system
 * @throws {InputError} When the runtime has none, such as a browser
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { hostFileSystem } from "@firn/train/data";
 *
 * const entries = await hostFileSystem().list("examples/models/sotu");
 * assert(entries.some(({ name }) => name === "config.json"));
 * ```
 */
export function hostFileSystem(): FileSystem {
  const { Deno: deno } = globalThis;
  if (deno === undefined) {
    throw new InputError(
      'Cannot use files as this runtime must have a file system: it is not Deno; give a "fileSystem" of your own',
    );
  }
  return denoFileSystem(deno);
}
