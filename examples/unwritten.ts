/**
 * Files of a run that writes nothing: what is written is made, and dropped.
 *
 * @module
 */

import type { FileSystem } from "@firn/train/data";

/**
 * Makes a file system in which writing takes the time that it takes to make what is written, and changes nothing.
 *
 * @param files Where files are read
 * @returns The file system
 */
export function unwritten(files: FileSystem): FileSystem {
  const nothing = (): Promise<void> => Promise.resolve();
  return {
    ...files,
    async write(_path, content) {
      if (typeof content === "string" || content instanceof Uint8Array) return;
      for await (const _ of content);
    },
    append: nothing,
    makeFolder: nothing,
    rename: nothing,
    remove: nothing,
  };
}
