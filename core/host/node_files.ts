/**
 * The files of Node, as the calls of Deno that {@link systemFileSystem} makes.
 *
 * @module
 */

import type * as childProcess from "node:child_process";
import type * as fs from "node:fs";
import type * as util from "node:util";
import type { NodeProcess } from "./node.ts";
import type { SystemFile, SystemFiles } from "./system_file_system.ts";

/** What the lock of a file takes on a system: the flags of `open` that ask for it, or a program. */
export type LockWay = { readonly flags: number } | { readonly program: string };

/** Not to wait for a lock, on macOS. */
const O_NONBLOCK = 0x4;

/**
 * How an open file is locked: Node itself cannot. The lock is one of the system in each case, so that it ends with the
 * process, and Deno and Node exclude each other.
 *
 * Source: libuv, `UV_FS_O_EXLOCK`: `O_EXLOCK` of macOS, and no sharing on Windows; flock(1) of util-linux locks what it
 * inherits.
 *
 * @param platform `process.platform`
 * @returns Flags of `open`, or a program that locks its descriptor 3
 */
export function lockWay(platform: string): LockWay {
  if (platform === "darwin") return { flags: 0x20 | O_NONBLOCK };
  if (platform === "win32") return { flags: 0x10000000 };
  return { program: "flock" };
}

/**
 * Makes the calls from Node's modules.
 *
 * @param node The process
 * @returns The calls
 */
export function nodeFiles(node: NodeProcess): SystemFiles {
  const { promisify } = node.getBuiltinModule("node:util") as typeof util;
  const files = node.getBuiltinModule("node:fs") as typeof fs, { promises, constants } = files;
  const open = promisify(files.open);
  const infoOf = (stats: fs.Stats): Awaited<ReturnType<SystemFiles["stat"]>> => ({
    ...{ isFile: stats.isFile(), isDirectory: stats.isDirectory() },
    ...{ size: stats.size, ino: stats.ino, dev: stats.dev },
  });
  return {
    SeekMode: { Start: 0 },
    permissions: { query: () => Promise.resolve({ state: "granted" }) },
    async open(path, options = {}) {
      const { read = false, append = false, createNew = false } = options;
      const write = options.write || append, create = options.create || createNew;
      const flags = (write ? read ? constants.O_RDWR : constants.O_WRONLY : constants.O_RDONLY) |
        (append ? constants.O_APPEND : 0) | (create ? constants.O_CREAT : 0) |
        (createNew ? constants.O_EXCL : 0);
      return openedFile(await open(path, flags), { path, node, infoOf });
    },
    mkdir: async (path, options) => void await promises.mkdir(path, options),
    async *readDir(path) {
      for (const entry of await promises.readdir(path, { withFileTypes: true })) {
        yield {
          name: entry.name,
          ...{ isFile: entry.isFile(), isDirectory: entry.isDirectory(), isSymlink: entry.isSymbolicLink() },
        };
      }
    },
    stat: async (path) => infoOf(await promises.stat(path)),
    realPath: (path) => promises.realpath(path),
    rename: (from, to) => promises.rename(from, to),
    remove: (path, options) => promises.rm(path, options),
    link: (to, path) => promises.link(to, path),
    symlink: (to, path, { type }) => promises.symlink(to, path, type),
  };
}

/** An open file. Closing is synchronous, as Deno's is: what comes after it finds the file closed. */
function openedFile(
  descriptor: number,
  { path, node, infoOf }: {
    readonly path: string;
    readonly node: NodeProcess;
    readonly infoOf: (stats: fs.Stats) => Awaited<ReturnType<SystemFile["stat"]>>;
  },
): SystemFile {
  const { promisify } = node.getBuiltinModule("node:util") as typeof util;
  const files = node.getBuiltinModule("node:fs") as typeof fs;
  const read = promisify(files.read), write = promisify(files.write), open = promisify(files.open);
  let fd = descriptor, at = 0;
  const close = (): void => {
    if (fd >= 0) files.closeSync(fd);
    fd = -1;
  };
  /** Opens the file once more with its lock. The caller finds out whether the path leads to another file by now. */
  async function reopen(flags: number): Promise<boolean> {
    if (node.platform === "win32") close();
    try {
      const locked = await open(path, files.constants.O_RDWR | flags);
      close();
      fd = locked;
      return true;
    } catch (error) {
      if (["EAGAIN", "EWOULDBLOCK", "EBUSY"].includes((error as { readonly code?: string }).code ?? "")) {
        return false;
      }
      throw error;
    }
  }
  return {
    async read(bytes) {
      const { bytesRead } = await read(fd, bytes, 0, bytes.length, at);
      at += bytesRead;
      return bytesRead === 0 && bytes.length > 0 ? null : bytesRead;
    },
    seek: (place) => Promise.resolve(at = place),
    write: async (bytes) => (await write(fd, bytes, 0, bytes.length, null)).bytesWritten,
    stat: async () => infoOf(await promisify(files.fstat)(fd)),
    truncate: (size) => promisify(files.ftruncate)(fd, size),
    sync: () => promisify(files.fsync)(fd),
    async tryLock() {
      const way = lockWay(node.platform);
      return "flags" in way ? await reopen(way.flags) : lockBy(way.program, { fd, node });
    },
    close,
  };
}

/** Locks by a program: the lock is that of the open file, which the program shares, so it stays when the program ends. */
function lockBy(program: string, { fd, node }: { readonly fd: number; readonly node: NodeProcess }): boolean {
  const { spawnSync } = node.getBuiltinModule("node:child_process") as typeof childProcess;
  const { status, error } = spawnSync(program, ["--exclusive", "--nonblock", "3"], {
    stdio: ["ignore", "ignore", "ignore", fd],
  });
  if (error === undefined && (status === 0 || status === 1)) return status === 0;
  throw Object.assign(
    new Error(
      `the program "${program}" must lock it (package util-linux): ${error?.message ?? `exit ${status}`}`,
    ),
    { code: "ENOLCK" },
  );
}
