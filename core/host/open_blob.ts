/**
 * Blobs as open files.
 *
 * @module
 */

import type { OpenFile } from "./file_system.ts";
import { inOpfs } from "./opfs_handles.ts";

/**
 * Opens a blob, such as a `File` of a browser.
 *
 * @param blob Its content
 * @param path What errors call it
 * @returns The open file
 */
export function openBlob(blob: Blob, path: string): OpenFile {
  return {
    size: blob.size,
    read: (begin, end) =>
      inOpfs({ action: "read", path, kind: "file" }, async () => {
        // Blobs count negative places from their end.
        const [from, to] = [Math.max(0, begin), Math.max(0, end)];
        return new Uint8Array(await blob.slice(from, Math.max(from, to)).arrayBuffer());
      }),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
