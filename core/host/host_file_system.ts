/**
 * The file system of the machine.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { FileSystem } from "./file_system.ts";
import { nodeProcess } from "./node.ts";

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
  if (deno !== undefined || node !== null) return loadedLater(systemFiles);
  throw new InputError(
    'Cannot use files as this runtime must have a file system: it is neither Deno nor Node; give a "fileSystem" of your own',
  );
}

/** Loads what uses the system: a page, which has none, does not download it. */
async function systemFiles(): Promise<FileSystem> {
  const { systemFileSystem } = await import("./system_file_system.ts");
  const { Deno: deno } = globalThis;
  if (deno !== undefined) return systemFileSystem(deno);
  const { nodeFiles } = await import("./node_files.ts");
  return systemFileSystem(nodeFiles(nodeProcess()!));
}

/** A file system that is loaded when the first of its functions is called. */
function loadedLater(load: () => Promise<FileSystem>): FileSystem {
  let loading: Promise<FileSystem> | undefined;
  const system = (): Promise<FileSystem> => loading ??= load();
  return {
    read: async (...args) => await (await system()).read(...args),
    open: async (...args) => await (await system()).open(...args),
    write: async (...args) => await (await system()).write(...args),
    append: async (...args) => await (await system()).append(...args),
    stat: async (...args) => await (await system()).stat(...args),
    realPath: async (...args) => await (await system()).realPath(...args),
    list: async (...args) => await (await system()).list(...args),
    makeFolder: async (...args) => await (await system()).makeFolder(...args),
    link: async (...args) => await (await system()).link!(...args),
    rename: async (...args) => await (await system()).rename(...args),
    remove: async (...args) => await (await system()).remove(...args),
    lock: async (...args) => await (await system()).lock(...args),
  };
}
