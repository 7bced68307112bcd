/**
 * The file system of Deno.
 *
 * @module
 */

import { chunksOf, type Content, type FileSystem, notFound, type OpenFile } from "./file_system.ts";

/** The part of the namespace `Deno` that is used. */
export type DenoFiles = Pick<
  typeof Deno,
  | "errors"
  | "mkdir"
  | "open"
  | "readDir"
  | "readFile"
  | "remove"
  | "rename"
  | "SeekMode"
  | "stat"
  | "writeFile"
>;

/**
 * Makes a file system from the namespace `Deno`.
 *
 * @param deno The namespace
 * @returns The file system
 */
export function denoFileSystem(deno: DenoFiles): FileSystem {
  const isMissing = (error: unknown): boolean => error instanceof deno.errors.NotFound;
  /** Does work on a path; an error for a missing file names the path. */
  async function naming<T>(path: string, kind: "file" | "folder", work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw isMissing(error) ? notFound(path, kind, error) : error;
    }
  }
  return {
    read: (path) => naming(path, "file", () => deno.readFile(path)),
    open: (path) => naming(path, "file", () => openFile(deno, path)),
    write: (path, content) => writeAtomic(deno, path, content),
    append: (path, content) =>
      deno.writeFile(path, typeof content === "string" ? new TextEncoder().encode(content) : content, {
        append: true,
      }),
    async stat(path) {
      try {
        return { isFolder: (await deno.stat(path)).isDirectory };
      } catch (error) {
        if (isMissing(error)) return null;
        throw error;
      }
    },
    list: (folder) =>
      naming(folder, "folder", async () => {
        const entries = await Array.fromAsync(deno.readDir(folder));
        return entries.map(({ name, isDirectory }) => ({ name, isFolder: isDirectory }));
      }),
    makeFolder: (path, { parents = false } = {}) => deno.mkdir(path, { recursive: parents }),
    rename: (from, to) => deno.rename(from, to),
    remove: (path) => deno.remove(path, { recursive: true }),
  };
}

async function openFile(deno: DenoFiles, path: string): Promise<OpenFile> {
  const file = await deno.open(path);
  const size = await file.stat().then((stat) => stat.size, (error) => {
    file.close();
    throw error;
  });
  async function readAt(begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(end - begin);
    await file.seek(begin, deno.SeekMode.Start);
    let done = 0;
    while (done < bytes.length) {
      const count = await file.read(bytes.subarray(done));
      if (count === null) break;
      done += count;
    }
    return bytes.subarray(0, done);
  }
  // The file has one cursor, so each read waits for the one before it.
  let last: Promise<unknown> = Promise.resolve();
  return {
    size,
    async read(begin, end) {
      const bytes = last.then(() => readAt(begin, end));
      last = bytes.catch(() => {});
      return await bytes;
    },
    async [Symbol.asyncDispose]() {
      await last;
      file.close();
    },
  };
}

/**
 * Writes into a temporary file beside the path, flushes it to the disk and renames it. Needs write permission for the
 * folder, not only for the file.
 */
async function writeAtomic(deno: DenoFiles, path: string, content: Content): Promise<void> {
  const temporary = `${path}.${crypto.randomUUID()}.tmp`;
  const file = await deno.open(temporary, { write: true, createNew: true });
  try {
    try {
      for await (const chunk of chunksOf(content)) await writeAll(file, chunk);
      await file.sync();
    } finally {
      file.close();
    }
    await deno.rename(temporary, path);
  } catch (error) {
    await deno.remove(temporary);
    throw error;
  }
}

/**
 * Writes all bytes to an open file. One call of `write` may take only some.
 *
 * @param file An open file
 * @param bytes The bytes
 */
export async function writeAll(file: Pick<Deno.FsFile, "write">, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
}
