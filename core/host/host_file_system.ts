/**
 * The file system of the machine.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { FileSystem } from "./file_system.ts";
import { nodeProcess } from "./node.ts";
import { nodeFiles } from "./node_files.ts";
import { systemFileSystem } from "./system_file_system.ts";

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
  const { Deno: deno } = globalThis, node = nodeProcess();
  if (deno !== undefined) return systemFileSystem(deno);
  if (node !== null) return systemFileSystem(nodeFiles(node));
  throw new InputError(
    'Cannot use files as this runtime must have a file system: it is neither Deno nor Node; give a "fileSystem" of your own',
  );
}
