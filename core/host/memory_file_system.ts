/**
 * A file system in memory, for browsers and for tests.
 *
 * @module
 */

import { AlreadyExistsError } from "../errors.ts";
import { type Entry, type FileSystem, notFound, piecesOf } from "./file_system.ts";

/**
 * Makes an empty file system in memory.
 *
 * @param files Files to begin with: content by path; the folders above them are made
 * @returns The file system; its only folder at the start is `""`
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
  /** Bytes of a file by path; null for a folder. */
  const entries = new Map<string, Uint8Array<ArrayBuffer> | null>([["", null]]);
  function bytesOf(path: string): Uint8Array<ArrayBuffer> {
    const bytes = entries.get(normal(path));
    if (bytes === undefined || bytes === null) throw notFound(path, "file");
    return bytes;
  }
  function checkParent(path: string): void {
    if (entries.get(parentOf(normal(path))) !== null) throw notFound(parentOf(path), "folder");
  }
  function put(path: string, bytes: Uint8Array<ArrayBuffer>): void {
    checkParent(path);
    if (entries.get(normal(path)) === null) {
      throw new AlreadyExistsError(`Cannot write "${path}" as it must be a file: it is a folder`);
    }
    entries.set(normal(path), bytes);
  }
  function makeFolder(path: string, { parents = false }: { readonly parents?: boolean } = {}): void {
    const at = normal(path), known = entries.get(at);
    if (parents && known === null) return;
    if (known !== undefined) {
      throw new AlreadyExistsError(`Cannot make "${path}" as nothing may be there: it exists`);
    }
    if (parents) makeFolder(parentOf(at), { parents });
    checkParent(at);
    entries.set(at, null);
  }
  /** Paths of an entry and of all that is in it. */
  function below(path: string): string[] {
    const at = normal(path);
    if (!entries.has(at)) throw notFound(path, "file");
    return [...entries.keys()].filter((other) => other === at || other.startsWith(`${at}/`));
  }
  for (const [path, content] of Object.entries(files)) {
    makeFolder(parentOf(normal(path)), { parents: true });
    put(path, joined(typeof content === "string" ? [new TextEncoder().encode(content)] : [content]));
  }
  return {
    read: (path) => Promise.try(() => bytesOf(path).slice()),
    open: (path) =>
      Promise.try(() => {
        const bytes = bytesOf(path);
        return {
          size: bytes.length,
          read: (begin, end) => Promise.resolve(bytes.slice(begin, end)),
          [Symbol.asyncDispose]: () => Promise.resolve(),
        };
      }),
    async write(path, content) {
      put(path, joined(await Array.fromAsync(piecesOf(content))));
    },
    async append(path, content) {
      const old = entries.get(normal(path)) ?? new Uint8Array();
      put(path, joined([old, ...await Array.fromAsync(piecesOf(content))]));
    },
    stat(path) {
      const entry = entries.get(normal(path));
      return Promise.resolve(entry === undefined ? null : { isFolder: entry === null });
    },
    list: (folder) =>
      Promise.try(() => {
        const at = normal(folder);
        if (entries.get(at) !== null) throw notFound(folder, "folder");
        return [...entries].flatMap(([path, bytes]): Entry[] =>
          path !== "" && parentOf(path) === at ? [{ name: nameOf(path), isFolder: bytes === null }] : []
        );
      }),
    makeFolder: (path, options) => Promise.try(() => makeFolder(path, options)),
    rename: (from, to) =>
      Promise.try(() => {
        checkParent(to);
        const [source, target] = [normal(from), normal(to)], there = entries.get(target);
        if (there === null || there !== undefined && entries.get(source) === null) {
          throw new AlreadyExistsError(
            `Cannot rename "${from}" to "${to}" as only a file replaces a file: it exists`,
          );
        }
        for (const path of below(from)) {
          entries.set(target + path.slice(source.length), entries.get(path)!);
          entries.delete(path);
        }
      }),
    remove: (path) => Promise.try(() => below(path).forEach((entry) => entries.delete(entry))),
  };
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

function joined(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(pieces.reduce((n, piece) => n + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}
