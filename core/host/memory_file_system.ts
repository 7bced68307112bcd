/**
 * A file system in memory, for browsers and for tests.
 *
 * @module
 */

import { AlreadyExistsError } from "../errors.ts";
import { chunksOf, type Entry, type FileSystem, notFound, type OpenFile } from "./file_system.ts";

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
    put(tree, path, joined(typeof content === "string" ? [new TextEncoder().encode(content)] : [content]));
  }
  return {
    read: (path) => Promise.try(() => bytesOf(tree, path).slice()),
    open: (path) => Promise.try(() => openBytes(bytesOf(tree, path))),
    async write(path, content) {
      put(tree, path, joined(await Array.fromAsync(chunksOf(content))));
    },
    async append(path, content) {
      const old = tree.get(normal(path)) ?? new Uint8Array();
      put(tree, path, joined([old, ...await Array.fromAsync(chunksOf(content))]));
    },
    stat(path) {
      const entry = tree.get(normal(path));
      return Promise.resolve(entry === undefined ? null : { isFolder: entry === null });
    },
    list: (folder) => Promise.try(() => list(tree, folder)),
    makeFolder: (path, options) => Promise.try(() => makeFolder(tree, path, options)),
    rename: (from, to) => Promise.try(() => rename(tree, { from, to })),
    remove: (path) => Promise.try(() => below(tree, path).forEach((entry) => tree.delete(entry))),
  };
}

/** Entries by path: the bytes of a file, or null for a folder. */
type Tree = Map<string, Uint8Array<ArrayBuffer> | null>;

function bytesOf(tree: Tree, path: string): Uint8Array<ArrayBuffer> {
  const bytes = tree.get(normal(path));
  if (bytes === undefined || bytes === null) throw notFound(path, "file");
  return bytes;
}

function openBytes(bytes: Uint8Array<ArrayBuffer>): OpenFile {
  return {
    size: bytes.length,
    read: (begin, end) => Promise.resolve(bytes.slice(begin, end)),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

function checkParent(tree: Tree, path: string): void {
  if (tree.get(parentOf(normal(path))) !== null) throw notFound(parentOf(path), "folder");
}

function put(tree: Tree, path: string, bytes: Uint8Array<ArrayBuffer>): void {
  checkParent(tree, path);
  if (tree.get(normal(path)) === null) {
    throw new AlreadyExistsError(`Cannot write "${path}" as it must be a file: it is a folder`);
  }
  tree.set(normal(path), bytes);
}

function makeFolder(
  tree: Tree,
  path: string,
  { parents = false }: { readonly parents?: boolean } = {},
): void {
  const at = normal(path), known = tree.get(at);
  if (parents && known === null) return;
  if (known !== undefined) {
    throw new AlreadyExistsError(`Cannot make "${path}" as nothing may be there: it exists`);
  }
  if (parents) makeFolder(tree, parentOf(at), { parents });
  checkParent(tree, at);
  tree.set(at, null);
}

/** Paths of an entry and of its content. */
function below(tree: Tree, path: string): string[] {
  const at = normal(path);
  if (!tree.has(at)) throw notFound(path, "file");
  return [...tree.keys()].filter((other) => other === at || other.startsWith(`${at}/`));
}

function list(tree: Tree, folder: string): Entry[] {
  const at = normal(folder);
  if (tree.get(at) !== null) throw notFound(folder, "folder");
  return [...tree].flatMap(([path, bytes]): Entry[] =>
    path !== "" && parentOf(path) === at ? [{ name: nameOf(path), isFolder: bytes === null }] : []
  );
}

function rename(tree: Tree, { from, to }: { readonly from: string; readonly to: string }): void {
  checkParent(tree, to);
  const [source, target] = [normal(from), normal(to)], there = tree.get(target);
  if (there === null || there !== undefined && tree.get(source) === null) {
    throw new AlreadyExistsError(
      `Cannot rename "${from}" to "${to}" as only a file replaces a file: it exists`,
    );
  }
  for (const path of below(tree, from)) {
    tree.set(target + path.slice(source.length), tree.get(path)!);
    tree.delete(path);
  }
}

function normal(path: string): string {
  return path.replace(/(?<=.)\/+$/, "").replace(/^\.\//, "");
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

function joined(chunks: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(chunks.reduce((n, chunk) => n + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}
