/**
 * The file system of Deno.
 *
 * @module
 */

import { NotFoundError } from "../errors.ts";
import { type Attempt, codeOf, fileError, machineError } from "./file_errors.ts";
import {
  chunksOf,
  type Content,
  type Entry,
  type FileInfo,
  type FileSystem,
  type OpenFile,
  READ_LIMIT,
} from "./file_system.ts";
import { checkSize } from "./limits.ts";
import { temporaryPath } from "./temporary.ts";

/** The part of the namespace `Deno` that is used. */
export type DenoFiles = Pick<
  typeof Deno,
  | "link"
  | "mkdir"
  | "open"
  | "permissions"
  | "readDir"
  | "realPath"
  | "remove"
  | "rename"
  | "SeekMode"
  | "stat"
  | "symlink"
>;

/**
 * Makes a file system from the namespace `Deno`. All that Firn does with files goes through these functions, so a test can
 * let any of them fail.
 *
 * @param deno The namespace
 * @returns The file system
 */
export function denoFileSystem(deno: DenoFiles): FileSystem {
  const open = (path: string): Promise<OpenFile> => openFile(deno, path);
  return {
    async read(path, { limit = READ_LIMIT } = {}) {
      await using file = await open(path);
      checkSize(path, { size: file.size, limit });
      return await file.read(0, file.size);
    },
    open,
    write: (path, content, { bytes = sizeOf(content) } = {}) => writeAtomic(deno, path, { content, bytes }),
    append: (path, content, { flush = false } = {}) => append(deno, path, { content, flush }),
    stat: (path) => infoOf(deno, path),
    realPath: (path) => trying({ action: "find", path }, () => deno.realPath(path)),
    list: (path) =>
      trying({ action: "list", path, kind: "folder" }, async () => {
        const entries: Entry[] = [];
        for await (const { name, ...entry } of deno.readDir(path)) {
          entries.push({ name, kind: entry.isSymlink ? "link" : kindOf(entry) });
        }
        return entries;
      }),
    makeFolder: (path, { parents = false } = {}) =>
      trying({ action: "make", path, kind: "folder" }, () => deno.mkdir(path, { recursive: parents })),
    link: (path, { to }) => link(deno, path, to),
    rename: (from, to) => trying({ action: "rename", path: from }, () => deno.rename(from, to)),
    remove: (path) => trying({ action: "remove", path }, () => deno.remove(path, { recursive: true })),
    lock: (path, holder) => lockFile(deno, path, holder),
  };
}

/** Does work of the machine; its failure becomes an error that names the path. */
async function trying<T>(attempt: Attempt, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw machineError(error, attempt);
  }
}

function kindOf({ isFile, isDirectory }: Pick<Deno.FileInfo, "isFile" | "isDirectory">): FileInfo["kind"] {
  return isFile ? "file" : isDirectory ? "folder" : "other";
}

const sizeOf = (content: Content): number | undefined =>
  typeof content === "string"
    ? new TextEncoder().encode(content).length
    : content instanceof Uint8Array
    ? content.length
    : undefined;

async function infoOf(deno: DenoFiles, path: string): Promise<FileInfo | null> {
  try {
    const stat = await deno.stat(path);
    return { kind: kindOf(stat), size: stat.size };
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(codeOf(error)!)) return null;
    throw machineError(error, { action: "find", path });
  }
}

/** Refuses what is no file before it is opened: opening a pipe waits for its other end. */
async function checkFile(deno: DenoFiles, attempt: Attempt): Promise<void> {
  const info = await infoOf(deno, attempt.path);
  if (info?.kind === "folder") throw fileError("EISDIR", attempt);
  if (info?.kind === "other") throw fileError("ENODEV", attempt);
}

async function openFile(deno: DenoFiles, path: string): Promise<OpenFile> {
  const attempt: Attempt = { action: "open", path, kind: "file" };
  await checkFile(deno, attempt);
  const file = await trying(attempt, () => deno.open(path));
  const { size } = await trying(attempt, () => file.stat()).catch((error) => {
    file.close();
    throw error;
  });
  async function readAt(begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(Math.max(0, Math.min(end, size) - begin));
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
      const bytes = last.then(() => trying(attempt, () => readAt(begin, end)));
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
async function writeAtomic(
  deno: DenoFiles,
  path: string,
  { content, bytes }: { readonly content: Content; readonly bytes?: number },
): Promise<void> {
  const attempt: Attempt = { action: "write", path, bytes };
  await checkFile(deno, attempt);
  const temporary = temporaryPath(path).fresh;
  const file = await trying(attempt, () => deno.open(temporary, { write: true, createNew: true }));
  try {
    try {
      for await (const chunk of chunksOf(content)) await trying(attempt, () => writeAll(file, chunk));
      await trying(attempt, () => file.sync());
    } finally {
      file.close();
    }
    await trying(attempt, () => deno.rename(temporary, path));
  } catch (error) {
    // The first error counts. What cannot be removed now is removed when the folder is locked again.
    await deno.remove(temporary).catch(() => {});
    throw error;
  }
}

async function append(
  deno: DenoFiles,
  path: string,
  { content, flush }: { readonly content: string | Uint8Array; readonly flush: boolean },
): Promise<void> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  const attempt: Attempt = { action: "append to", path, bytes: bytes.length };
  await checkFile(deno, attempt);
  const file = await trying(attempt, () => deno.open(path, { append: true, create: true }));
  try {
    const { size } = await trying(attempt, () => file.stat());
    try {
      await trying(attempt, () => writeAll(file, bytes));
      if (flush) await trying(attempt, () => file.sync());
    } catch (error) {
      // Half a line would end up in the middle of the file. The first error counts.
      await file.truncate(size).catch(() => {});
      throw error;
    }
  } finally {
    file.close();
  }
}

/**
 * Writes all bytes to an open file. One call of `write` may take only some.
 *
 * @param file An open file
 * @param bytes The bytes
 */
export async function writeAll(file: Pick<Deno.FsFile, "write">, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const count = await file.write(bytes.subarray(done));
    if (count === 0) throw Object.assign(new Error("nothing was written"), { code: "EIO" });
    done += count;
  }
}

/** Codes of systems and disks on which links of a kind are not permitted. */
const NO_LINKS: readonly (string | null)[] = [
  "EPERM",
  "EACCES",
  "EOPNOTSUPP",
  "ENOSYS",
  "EXDEV",
  "UNKNOWN",
  "NotCapable",
];

async function link(deno: DenoFiles, path: string, to: string): Promise<boolean> {
  const attempt: Attempt = { action: "link", path };
  const permitted = async (work: () => Promise<void>): Promise<boolean> => {
    try {
      await work();
      return true;
    } catch (error) {
      if (NO_LINKS.includes(codeOf(error))) return false;
      throw machineError(error, attempt);
    }
  };
  // Deno wants permission for all files before it makes a symbolic link, and would ask for it.
  const states = [
    await deno.permissions.query({ name: "read" }),
    await deno.permissions.query({ name: "write" }),
  ];
  const symbolic = states.every(({ state }) => state === "granted");
  return symbolic && await permitted(() => deno.symlink(relativePath(path, to), path)) ||
    await permitted(() => deno.link(to, path));
}

/** The way from the folder of a path to another path; a link of it still leads there when both are moved. */
function relativePath(path: string, to: string): string {
  const from = path.split("/").slice(0, -1), parts = to.split("/");
  if (path.startsWith("/") !== to.startsWith("/")) return to;
  const differs = from.findIndex((part, i) => part !== parts[i]),
    shared = differs < 0 ? from.length : differs;
  return [...from.slice(shared).map(() => ".."), ...parts.slice(shared)].join("/");
}

/** A lock of the system ends with its process, so that none is ever left behind. */
async function lockFile(deno: DenoFiles, path: string, holder: string): Promise<AsyncDisposable | null> {
  const attempt: Attempt = { action: "lock", path };
  while (true) {
    await checkFile(deno, attempt);
    const file = await trying(attempt, () => deno.open(path, { read: true, write: true, create: true }));
    try {
      if (!await trying(attempt, () => file.tryLock(true))) {
        file.close();
        return null;
      }
      // The holder before may have removed the file since it was opened: then this lock protects nothing.
      const own = await trying(attempt, () => file.stat());
      const there = await trying(attempt, () => deno.stat(path)).catch((error) => {
        if (error instanceof NotFoundError) return null;
        throw error;
      });
      if (there !== null && own.ino === there.ino && own.dev === there.dev) {
        await trying(attempt, async () => {
          await file.truncate(0);
          await writeAll(file, new TextEncoder().encode(holder));
        });
        return { [Symbol.asyncDispose]: () => unlock(deno, path, file) };
      }
      file.close();
    } catch (error) {
      file.close();
      throw error;
    }
  }
}

async function unlock(deno: DenoFiles, path: string, file: Deno.FsFile): Promise<void> {
  try {
    await trying({ action: "remove", path }, () => deno.remove(path)).catch((error) => {
      if (!(error instanceof NotFoundError)) throw error;
    });
  } finally {
    file.close();
  }
}
