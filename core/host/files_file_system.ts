/**
 * Files that a person picked, or that a program holds in memory, as a file system.
 *
 * @module
 */

import type { FileSystem } from "./file_system.ts";
import { foldersOf } from "./listed_files.ts";
import { openBlob } from "./open_blob.ts";
import { readOnlyFileSystem } from "./read_only.ts";

/** A file of a person, such as one of `input.files`, or a path with its content. */
export type PickedFile = File | readonly [path: string, content: Blob | Uint8Array<ArrayBuffer>];

/**
 * Makes a file system of files that are at hand: those of an `<input type="file">` or of a drop, or bytes by path. They are read
 * when they are asked for, and only the parts that are, so that a model may be larger than memory. All loaders take it as
 * `fileSystem`.
 *
 * The root `"."` holds the files. Of a folder that was picked with `webkitdirectory`, that is the folder itself.
 *
 * @param files The files; a `Map` from paths to bytes is such an iterable, and so is a `FileList`
 * @returns The file system, which is only read
 * @throws {InputError} When a path leads out of the root, or is there twice
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { filesFileSystem, loadTokenizer } from "@firn/train/data";
 *
 * const folder = "examples/models/sotu", names = ["config.json", "tokenizer.json", "tokenizer_config.json"];
 * const files = await Promise.all(names.map(async (name) => new File([await Deno.readFile(`${folder}/${name}`)], name)));
 * const tokenizer = await loadTokenizer(".", { fileSystem: filesFileSystem(files) });
 * assertEquals(tokenizer.decode(tokenizer.encode("peace")), "peace");
 * ```
 */
export function filesFileSystem(files: Iterable<PickedFile>): FileSystem {
  const named = [...files].map((file): readonly [string, Blob] => {
    if (!(file instanceof Blob)) {
      const [path, content] = file;
      return [path, content instanceof Blob ? content : new Blob([content])];
    }
    const inFolder = (file as { readonly webkitRelativePath?: string }).webkitRelativePath ?? "";
    return [inFolder.slice(inFolder.indexOf("/") + 1) || file.name, file];
  });
  const folders = foldersOf(named.map(([path]) => path), "the files"), blobs = new Map(named);
  return readOnlyFileSystem({
    // deno-lint-ignore require-await
    async stat(path) {
      const blob = blobs.get(path);
      if (blob !== undefined) return { kind: "file", size: blob.size };
      return folders.has(path) ? { kind: "folder", size: 0 } : null;
    },
    // deno-lint-ignore require-await
    async list(folder) {
      const entries = folders.get(folder);
      return entries === undefined ? null : [...entries.values()];
    },
    // deno-lint-ignore require-await
    async open(path) {
      const blob = blobs.get(path);
      return blob === undefined ? null : openBlob(blob, path);
    },
  });
}
