/**
 * The file system of a system, from its calls: those of Deno, or the ones that Node has in their place.
 *
 * @module
 */

import { FileError, NotFoundError } from "../errors.ts";
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
import { isAbsolute, isWindows, slashed } from "./paths.ts";
import { temporaryPath } from "./temporary.ts";

/** What the system says of a file. */
export interface SystemInfo {
  readonly isFile: boolean;
  readonly isDirectory: boolean;
  readonly size: number;
  /** The number of the file on its disk, and that of the disk; null where there is none. */
  readonly ino: number | null;
  readonly dev: number;
}

/** The part of `Deno.FsFile` that is used. */
export interface SystemFile {
  read(bytes: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  seek(place: number, from: number): Promise<number>;
  stat(): Promise<SystemInfo>;
  truncate(size?: number): Promise<void>;
  sync(): Promise<void>;
  tryLock(exclusive: boolean): Promise<boolean>;
  close(): void;
}

/** How a file is opened. */
export interface OpenOptions {
  readonly read?: boolean;
  readonly write?: boolean;
  readonly append?: boolean;
  readonly create?: boolean;
  readonly createNew?: boolean;
}

/** The part of the namespace `Deno` that is used. */
export interface SystemFiles {
  readonly SeekMode: { readonly Start: number };
  readonly permissions: {
    query(what: { readonly name: "read" | "write" }): Promise<{ readonly state: string }>;
  };
  open(path: string, options?: OpenOptions): Promise<SystemFile>;
  mkdir(path: string, options: { readonly recursive: boolean }): Promise<void>;
  readDir(path: string): AsyncIterable<
    Pick<SystemInfo, "isFile" | "isDirectory"> & { readonly name: string; readonly isSymlink: boolean }
  >;
  stat(path: string): Promise<SystemInfo>;
  realPath(path: string): Promise<string>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string, options?: { readonly recursive: boolean }): Promise<void>;
  link(to: string, path: string): Promise<void>;
  symlink(to: string, path: string, options: { readonly type: "file" }): Promise<void>;
}

/**
 * Makes a file system from the calls of a system. All that Firn does with files goes through these functions, so a test can
 * let any of them fail.
 *
 * @param system The namespace `Deno`, or {@link nodeFiles}
 * @returns The file system
 */
export function systemFileSystem(system: SystemFiles): FileSystem {
  const open = (path: string): Promise<OpenFile> => openFile(system, path);
  return {
    async read(path, { limit = READ_LIMIT } = {}) {
      await using file = await open(path);
      checkSize(path, { size: file.size, limit });
      return await file.read(0, file.size);
    },
    open,
    write: (path, content, { bytes = sizeOf(content) } = {}) => writeAtomic(system, path, { content, bytes }),
    append: (path, content, { flush = false } = {}) => append(system, path, { content, flush }),
    stat: (path) => infoOf(system, path),
    realPath: (path) => trying({ action: "find", path }, () => system.realPath(path)),
    list: (path) =>
      trying({ action: "list", path, kind: "folder" }, async () => {
        const entries: Entry[] = [];
        for await (const { name, ...entry } of system.readDir(path)) {
          entries.push({ name, kind: entry.isSymlink ? "link" : kindOf(entry) });
        }
        return entries;
      }),
    makeFolder: (path, { parents = false } = {}) =>
      trying({ action: "make", path, kind: "folder" }, () => system.mkdir(path, { recursive: parents })),
    link: (path, { to }) => link(system, path, to),
    rename: (from, to) => trying({ action: "rename", path: from }, () => moved(system, { from, to })),
    remove: (path) => trying({ action: "remove", path }, () => system.remove(path, { recursive: true })),
    lock: (path, holder) => lockFile(system, path, holder),
  };
}

/** Milliseconds between tries to move a file that another program has open for a moment, on Windows: two seconds in all. */
const WAITS: readonly number[] = [10, 20, 50, 100, 200, 300, 500, 800];

/**
 * Moves a file or a folder. Windows refuses that while a virus scanner or an indexer looks at what was just written, so that
 * it is tried again there.
 *
 * @param system The calls
 * @param options From where, to where, and the system
 */
export async function moved(
  system: Pick<SystemFiles, "rename">,
  { from, to, windows = isWindows() }: {
    readonly from: string;
    readonly to: string;
    readonly windows?: boolean;
  },
): Promise<void> {
  for (const wait of windows ? WAITS : []) {
    try {
      return await system.rename(from, to);
    } catch (error) {
      if (!["EACCES", "EPERM", "EBUSY"].includes(codeOf(error) ?? "")) throw error;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
  await system.rename(from, to);
}

/** Does work of the machine; its failure becomes an error that names the path. */
async function trying<T>(attempt: Attempt, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw machineError(error, attempt);
  }
}

function kindOf({ isFile, isDirectory }: Pick<SystemInfo, "isFile" | "isDirectory">): FileInfo["kind"] {
  return isFile ? "file" : isDirectory ? "folder" : "other";
}

const sizeOf = (content: Content): number | undefined =>
  typeof content === "string"
    ? new TextEncoder().encode(content).length
    : content instanceof Uint8Array
    ? content.length
    : undefined;

async function infoOf(system: SystemFiles, path: string): Promise<FileInfo | null> {
  try {
    const stat = await system.stat(path);
    return { kind: kindOf(stat), size: stat.size };
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(codeOf(error)!)) return null;
    throw machineError(error, { action: "find", path });
  }
}

/** Refuses what is no file before it is opened: opening a pipe waits for its other end. */
async function checkFile(system: SystemFiles, attempt: Attempt): Promise<void> {
  const info = await infoOf(system, attempt.path);
  if (info?.kind === "folder") throw fileError("EISDIR", attempt);
  if (info?.kind === "other") throw fileError("ENODEV", attempt);
}

async function openFile(system: SystemFiles, path: string): Promise<OpenFile> {
  const attempt: Attempt = { action: "open", path, kind: "file" };
  await checkFile(system, attempt);
  const file = await trying(attempt, () => system.open(path));
  const { size } = await trying(attempt, () => file.stat()).catch((error) => {
    file.close();
    throw error;
  });
  async function readAt(begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(Math.max(0, Math.min(end, size) - begin));
    await file.seek(begin, system.SeekMode.Start);
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
  system: SystemFiles,
  path: string,
  { content, bytes }: { readonly content: Content; readonly bytes?: number },
): Promise<void> {
  const attempt: Attempt = { action: "write", path, bytes };
  await checkFile(system, attempt);
  const temporary = temporaryPath(path).fresh;
  const file = await trying(attempt, () => system.open(temporary, { write: true, createNew: true }));
  try {
    try {
      for await (const chunk of chunksOf(content)) await trying(attempt, () => writeAll(file, chunk));
      await trying(attempt, () => file.sync());
    } finally {
      file.close();
    }
    await trying(attempt, () => moved(system, { from: temporary, to: path }));
  } catch (error) {
    // The first error counts. What cannot be removed now is removed when the folder is locked again.
    await system.remove(temporary).catch(() => {});
    throw error;
  }
}

async function append(
  system: SystemFiles,
  path: string,
  { content, flush }: { readonly content: string | Uint8Array; readonly flush: boolean },
): Promise<void> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  const attempt: Attempt = { action: "append to", path, bytes: bytes.length };
  await checkFile(system, attempt);
  const file = await trying(attempt, () => system.open(path, { append: true, create: true }));
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
export async function writeAll(file: Pick<SystemFile, "write">, bytes: Uint8Array): Promise<void> {
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

async function link(system: SystemFiles, path: string, to: string): Promise<boolean> {
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
    await system.permissions.query({ name: "read" }),
    await system.permissions.query({ name: "write" }),
  ];
  const symbolic = states.every(({ state }) => state === "granted");
  return symbolic && await permitted(() => system.symlink(relativePath(path, to), path, { type: "file" })) ||
    await permitted(() => system.link(to, path));
}

/** The way from the folder of a path to another path; a link of it still leads there when both are moved. */
function relativePath(path: string, to: string): string {
  const from = slashed(path).split("/").slice(0, -1), parts = slashed(to).split("/");
  // From one drive no path leads to another.
  if (isAbsolute(path) !== isAbsolute(to) || isWindows() && from[0] !== parts[0]) return to;
  const differs = from.findIndex((part, i) => part !== parts[i]),
    shared = differs < 0 ? from.length : differs;
  return [...from.slice(shared).map(() => ".."), ...parts.slice(shared)].join("/");
}

/** A lock of the system ends with its process, so that none is ever left behind. */
async function lockFile(system: SystemFiles, path: string, holder: string): Promise<AsyncDisposable | null> {
  const attempt: Attempt = { action: "lock", path };
  while (true) {
    await checkFile(system, attempt);
    const file = await trying(attempt, () => system.open(path, { read: true, write: true, create: true }))
      .catch(unlessBusy);
    // On Windows nobody else can open a file that Node has locked.
    if (file === null) return null;
    try {
      if (!await trying(attempt, () => file.tryLock(true))) {
        file.close();
        return null;
      }
      // The holder before may have removed the file since it was opened: then this lock protects nothing.
      const own = await trying(attempt, () => file.stat());
      const there = await trying(attempt, () => system.stat(path)).catch((error) => {
        if (error instanceof NotFoundError) return null;
        throw error;
      });
      if (there !== null && own.ino === there.ino && own.dev === there.dev) {
        await trying(attempt, async () => {
          await file.truncate(0);
          await writeAll(file, new TextEncoder().encode(holder));
        });
        return { [Symbol.asyncDispose]: () => unlock(system, path, file) };
      }
      file.close();
    } catch (error) {
      file.close();
      throw error;
    }
  }
}

async function unlock(system: SystemFiles, path: string, file: SystemFile): Promise<void> {
  try {
    // Windows removes no file that Node has locked: it stays, and nobody has it once it is closed.
    await trying({ action: "remove", path }, () => system.remove(path)).catch((error) => {
      if (!(error instanceof NotFoundError)) unlessBusy(error);
    });
  } finally {
    file.close();
  }
}

/** Null where something else uses a file. */
function unlessBusy(error: unknown): null {
  if (error instanceof FileError && error.code === "EBUSY") return null;
  throw error;
}
