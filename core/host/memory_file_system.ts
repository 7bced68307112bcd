/**
 * A file system in memory, for browsers and for tests.
 *
 * @module
 */

import { type Attempt, fileError } from "./file_errors.ts";
import {
  chunksOf,
  type Entry,
  type FileInfo,
  type FileSystem,
  type OpenFile,
  READ_LIMIT,
} from "./file_system.ts";
import { checkSize } from "./limits.ts";

/**
 * Makes a file system in memory.
 *
 * @param files Initial files, content by path; their folders are made
 * @returns The file system; its root folder is `""`
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memoryFileSystem, openSafetensors, writeSafetensors } from "@firn/train/data";
 *
 * const fileSystem = memoryFileSystem();
 * const tensor = { name: "x", dtype: "F32", shape: [2], data: new Float32Array([1, 2]) } as const;
 * await writeSafetensors("x.safetensors", [tensor], { fileSystem });
 * await using file = await openSafetensors("x.safetensors", { fileSystem });
 * assertEquals(await file.readF32("x"), new Float32Array([1, 2]));
 * ```
 */
export function memoryFileSystem(files: Readonly<Record<string, string | Uint8Array>> = {}): FileSystem {
  const tree: Tree = new Map([["", null]]);
  for (const [path, content] of Object.entries(files)) {
    makeFolder(tree, parentOf(normal(path)), { parents: true });
    const bytes = joined(typeof content === "string" ? [new TextEncoder().encode(content)] : [content]);
    put(tree, bytes, { action: "write", path });
  }
  const locked = new Set<string>();
  // Methods are asynchronous so that their errors arrive as rejections.
  return {
    // deno-lint-ignore require-await
    async read(path, { limit = READ_LIMIT } = {}) {
      const bytes = bytesOf(tree, path);
      checkSize(path, { size: bytes.length, limit });
      return bytes.slice();
    },
    // deno-lint-ignore require-await
    open: async (path) => openBytes(bytesOf(tree, path)),
    async write(path, content) {
      put(tree, joined(await Array.fromAsync(chunksOf(content), copyOf)), { action: "write", path });
    },
    async append(path, content) {
      const old = tree.get(normal(path)) ?? new Uint8Array();
      put(tree, joined([old, ...await Array.fromAsync(chunksOf(content), copyOf)]), {
        action: "append to",
        path,
      });
    },
    // deno-lint-ignore require-await
    stat: async (path) => infoOf(tree, path),
    // deno-lint-ignore require-await
    async realPath(path) {
      if (infoOf(tree, path) === null) throw fileError("ENOENT", { action: "find", path });
      return normal(path);
    },
    // deno-lint-ignore require-await
    list: async (folder) => list(tree, folder),
    // deno-lint-ignore require-await
    makeFolder: async (path, options) => makeFolder(tree, path, options),
    // deno-lint-ignore require-await
    rename: async (from, to) => rename(tree, { from, to }),
    // deno-lint-ignore require-await
    remove: async (path) => below(tree, path, "remove").forEach((entry) => tree.delete(entry)),
    // deno-lint-ignore require-await
    async lock(path, holder) {
      const at = normal(path);
      if (locked.has(at)) return null;
      put(tree, joined([new TextEncoder().encode(holder)]), { action: "lock", path });
      locked.add(at);
      return {
        [Symbol.asyncDispose]() {
          locked.delete(at);
          tree.delete(at);
          return Promise.resolve();
        },
      };
    },
  };
}

/** Entries by path: the bytes of a file, or null for a folder. */
type Tree = Map<string, Uint8Array<ArrayBuffer> | null>;

function bytesOf(tree: Tree, path: string): Uint8Array<ArrayBuffer> {
  const bytes = tree.get(normal(path));
  const attempt: Attempt = { action: "open", path, kind: "file" };
  if (bytes === undefined) throw fileError("ENOENT", attempt);
  if (bytes === null) throw fileError("EISDIR", attempt);
  return bytes;
}

function infoOf(tree: Tree, path: string): FileInfo | null {
  const entry = tree.get(normal(path));
  if (entry === undefined) return null;
  return entry === null ? { kind: "folder", size: 0 } : { kind: "file", size: entry.length };
}

function openBytes(bytes: Uint8Array<ArrayBuffer>): OpenFile {
  return {
    size: bytes.length,
    read: (begin, end) => Promise.resolve(bytes.slice(begin, end)),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

function checkParent(tree: Tree, attempt: Attempt): void {
  const parent = tree.get(parentOf(normal(attempt.path)));
  if (parent !== null) throw fileError(parent === undefined ? "ENOENT" : "ENOTDIR", attempt);
}

function put(tree: Tree, bytes: Uint8Array<ArrayBuffer>, attempt: Attempt): void {
  checkParent(tree, attempt);
  const at = normal(attempt.path);
  if (tree.get(at) === null) throw fileError("EISDIR", attempt);
  tree.set(at, bytes);
}

function makeFolder(
  tree: Tree,
  path: string,
  { parents = false }: { readonly parents?: boolean } = {},
): void {
  const at = normal(path), known = tree.get(at);
  if (parents && known === null) return;
  const attempt: Attempt = { action: "make", path, kind: "folder" };
  if (known !== undefined) throw fileError("EEXIST", attempt);
  if (parents) makeFolder(tree, parentOf(at), { parents });
  checkParent(tree, attempt);
  tree.set(at, null);
}

/** Paths of an entry and of its content. */
function below(tree: Tree, path: string, action: Attempt["action"]): string[] {
  const at = normal(path);
  if (!tree.has(at)) throw fileError("ENOENT", { action, path });
  return [...tree.keys()].filter((other) => other === at || other.startsWith(`${at}/`));
}

function list(tree: Tree, folder: string): Entry[] {
  const at = normal(folder), there = tree.get(at);
  if (there !== null) {
    throw fileError(there === undefined ? "ENOENT" : "ENOTDIR", {
      action: "list",
      path: folder,
      kind: "folder",
    });
  }
  return [...tree].flatMap(([path, bytes]): Entry[] =>
    path !== "" && parentOf(path) === at
      ? [{ name: nameOf(path), kind: bytes === null ? "folder" : "file" }]
      : []
  );
}

function rename(tree: Tree, { from, to }: { readonly from: string; readonly to: string }): void {
  const [source, target] = [normal(from), normal(to)], there = tree.get(target);
  const paths = below(tree, from, "rename");
  checkParent(tree, { action: "rename", path: to });
  if (there === null) {
    const empty = !paths.includes(target) && below(tree, to, "rename").length === 1;
    if (tree.get(source) !== null) throw fileError("EISDIR", { action: "rename", path: from });
    if (!empty) throw fileError("ENOTEMPTY", { action: "rename", path: to });
  } else if (there !== undefined && tree.get(source) === null) {
    throw fileError("ENOTDIR", { action: "rename", path: from, kind: "folder" });
  }
  for (const path of paths) {
    tree.set(target + path.slice(source.length), tree.get(path)!);
    tree.delete(path);
  }
}

function normal(path: string): string {
  return path.replace(/(?<=.)\/+$/, "").replace(/^\.(\/+|$)/, "");
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

const copyOf = (chunk: Uint8Array): Uint8Array => chunk.slice();

function joined(chunks: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(chunks.reduce((n, chunk) => n + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}
