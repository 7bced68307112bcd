/**
 * The file system that a browser gives to a site: private, and there after a reload.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { type Attempt, fileError } from "./file_errors.ts";
import { chunksOf, type Content, type Entry, type FileSystem, READ_LIMIT } from "./file_system.ts";
import { checkSize } from "./limits.ts";
import { inOpfs, type OpfsFile, type OpfsFolder, type OpfsLocks } from "./opfs_handles.ts";
import { finishMove, MOVE_RECORD, moveFile, moveFolder } from "./opfs_move.ts";
import { entryAt, folderAt, type Found, parentAt } from "./opfs_paths.ts";
import { openBlob } from "./open_blob.ts";
import { partsOf } from "./path_parts.ts";
import { temporaryPath } from "./temporary.ts";

/** Options of {@link opfsFileSystem}. */
export interface OpfsOptions {
  /** The folder that is the root; that of `navigator.storage.getDirectory()` when absent. */
  readonly root?: OpfsFolder;
  /** The locks; those of `navigator.locks` when absent. */
  readonly locks?: OpfsLocks;
}

/** Where a browser writes what is not yet in a file. */
const SWAP = ".crswap";

/**
 * Makes a file system from the origin private file system of a browser, in a page or in a worker. Files are replaced whole or not
 * at all, and so are folders, also when the tab is closed meanwhile: what was begun is ended when the next function is called.
 * Locks hold in all tabs of the site.
 *
 * An open file that is replaced can no longer be read: reading throws a {@link FileError}, and never returns other content.
 * The browser may remove what a site has stored when the disk is full, unless `navigator.storage.persist()` was granted.
 *
 * @param options Another root, such as a folder in it, and other locks
 * @returns The file system; its root folder is `"."`
 * @throws {InputError} By its functions, when the runtime has no such file system
 *
 * @example
 * ```ts ignore
 * import { checkpointKeeper, loadCheckpoint } from "@firn/train/checkpoint";
 * import { opfsFileSystem } from "@firn/train/data";
 *
 * const fileSystem = opfsFileSystem();
 * await using keeper = checkpointKeeper(gpu, { path: "run.safetensors", every: 100, fileSystem });
 * // After a reload:
 * const state = await training.resume(await loadCheckpoint("run.safetensors", { fileSystem }));
 * ```
 */
export function opfsFileSystem(options: OpfsOptions = {}): FileSystem {
  const area = areaOf(options);
  const using = <T>(attempt: Attempt, work: (root: OpfsFolder) => Promise<T>) =>
    inOpfs(attempt, () => settled(area, work));
  const open: FileSystem["open"] = (path) => {
    const attempt: Attempt = { action: "open", path, kind: "file" };
    return using(attempt, async (root) => {
      const found = await entryAt(root, partsOf(attempt));
      if (found === null) throw fileError("ENOENT", attempt);
      if (found.file === undefined) throw fileError("EISDIR", attempt);
      return openBlob(await found.file.getFile(), path);
    });
  };
  return {
    async read(path, { limit = READ_LIMIT } = {}) {
      await using file = await open(path);
      checkSize(path, { size: file.size, limit });
      return await file.read(0, file.size);
    },
    open,
    write: (path, content, { bytes } = {}) => write(area, { action: "write", path, bytes }, content),
    append: (path, content) => append(area, path, content),
    stat: (path) => {
      const attempt: Attempt = { action: "find", path };
      return using(attempt, async (root) => {
        const found = await entryAt(root, partsOf(attempt));
        if (found === null) return null;
        return found.file === undefined
          ? { kind: "folder", size: 0 }
          : { kind: "file", size: (await found.file.getFile()).size };
      });
    },
    realPath: (path) => {
      const attempt: Attempt = { action: "find", path };
      return using(attempt, async (root) => {
        const parts = partsOf(attempt);
        if (await entryAt(root, parts) === null) throw fileError("ENOENT", attempt);
        return parts.join("/");
      });
    },
    list: (path) => {
      const attempt: Attempt = { action: "list", path, kind: "folder" };
      return using(attempt, async (root) => await list(await folderAt(root, partsOf(attempt), attempt)));
    },
    makeFolder: (path, { parents = false } = {}) => {
      const attempt: Attempt = { action: "make", path, kind: "folder" };
      return using(attempt, (root) => makeFolder(root, attempt, parents));
    },
    rename: (from, to) => inOpfs({ action: "rename", path: from }, () => rename(area, from, to)),
    remove: (path) => {
      const attempt: Attempt = { action: "remove", path };
      return using(attempt, (root) => remove(root, attempt));
    },
    lock: (path, holder) => lock(area, path, holder),
  };
}

/** The root and the locks, looked up when they are used. */
interface Area {
  root(): Promise<OpfsFolder>;
  /** Does work while a lock of a name is held. */
  hold: OpfsLocks["request"];
}

/** The part of `navigator` that is used; a runtime may lack all of it. */
interface Site {
  readonly storage?: { getDirectory?(): Promise<OpfsFolder> };
  readonly locks?: OpfsLocks;
}

function areaOf(options: OpfsOptions): Area {
  const site = (globalThis as { readonly navigator?: Site }).navigator;
  let found: Promise<OpfsFolder> | undefined;
  const find = async (): Promise<OpfsFolder> => {
    if (options.root !== undefined) return options.root;
    if (site?.storage?.getDirectory === undefined) {
      throw new InputError(
        'Cannot use files of a site as this runtime must have "navigator.storage": it has not; serve the page by https or ' +
          'from 127.0.0.1, or give a "fileSystem" of your own',
      );
    }
    return await site.storage.getDirectory();
  };
  const root = () => found ??= find();
  return {
    root,
    async hold(name, how, work) {
      const locks = options.locks ?? site?.locks;
      if (locks === undefined) {
        throw new InputError(
          'Cannot use files of a site as this runtime must have "navigator.locks": it has not; give "locks" of your own',
        );
      }
      return await locks.request(`firn:${(await root()).name}:${name}`, how, work);
    },
  };
}

/** Does work while no folder is being moved, and after every move that a closed tab began has been ended. */
async function settled<T>({ root, hold }: Area, work: (root: OpfsFolder) => Promise<T>): Promise<T> {
  const folder = await root();
  while (true) {
    const done = await hold(
      "tree",
      { mode: "shared" },
      async () => await entryAt(folder, [MOVE_RECORD]) === null ? { value: await work(folder) } : null,
    );
    if (done !== null) return done.value;
    await hold("tree", {}, () => finishMove(folder));
  }
}

/** Fills a temporary file beside the path, which then takes its place. */
async function write(area: Area, attempt: Attempt, content: Content): Promise<void> {
  const { place, file } = await inOpfs(attempt, () =>
    settled(area, async (root) => {
      const place = await parentAt(root, attempt);
      checkFile(await entryAt(place.folder, [place.name]), attempt);
      const fresh = { folder: place.folder, name: temporaryPath(place.name).fresh };
      return {
        place,
        file: { ...fresh, handle: await fresh.folder.getFileHandle(fresh.name, { create: true }) },
      };
    }));
  try {
    await fill(file.handle, attempt, content);
    await inOpfs(attempt, () => settled(area, () => moveFile(file, place)));
  } catch (error) {
    // The first error counts. What cannot be removed now is removed when the folder is locked again.
    await file.folder.removeEntry(file.name).catch(() => {});
    throw error;
  }
}

function checkFile(found: Found | null, attempt: Attempt): void {
  if (found?.folder !== undefined) throw fileError("EISDIR", attempt);
}

/** Writes a file; it stays as it was when that fails. */
async function fill(
  handle: OpfsFile,
  attempt: Attempt,
  content: Content,
  { from = 0 }: { readonly from?: number } = {},
): Promise<void> {
  const writable = await inOpfs(attempt, () => handle.createWritable({ keepExistingData: from > 0 }));
  try {
    if (from > 0) await inOpfs(attempt, () => writable.seek(from));
    for await (const chunk of chunksOf(content)) {
      await inOpfs(attempt, () => writable.write(chunk as Uint8Array<ArrayBuffer>));
    }
    await inOpfs(attempt, () => writable.close());
  } catch (error) {
    // The first error counts.
    await writable.abort().catch(() => {});
    throw error;
  }
}

async function append(area: Area, path: string, content: string | Uint8Array): Promise<void> {
  const attempt: Attempt = { action: "append to", path };
  const name = partsOf(attempt).join("/");
  // Each would write what it knew of the file, and lose what another one added meanwhile.
  await inOpfs(attempt, () =>
    area.hold(`append:${name}`, {}, () =>
      settled(area, async (root) => {
        const place = await parentAt(root, attempt);
        const found = await entryAt(place.folder, [place.name]);
        checkFile(found, attempt);
        const handle = await place.folder.getFileHandle(place.name, { create: true });
        try {
          await fill(handle, attempt, content, { from: (await handle.getFile()).size });
        } catch (error) {
          if (found === null) await place.folder.removeEntry(place.name).catch(() => {});
          throw error;
        }
      })));
}

async function list(folder: OpfsFolder): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const { name, kind } of folder.values()) {
    if (name.endsWith(SWAP) || name === MOVE_RECORD) continue;
    entries.push({ name, kind: kind === "directory" ? "folder" : "file" });
  }
  return entries;
}

async function makeFolder(root: OpfsFolder, attempt: Attempt, parents: boolean): Promise<void> {
  const parts = partsOf(attempt);
  if (!parents) {
    const { folder, name } = await parentAt(root, attempt);
    if (await entryAt(folder, [name]) !== null) throw fileError("EEXIST", attempt);
    await folder.getDirectoryHandle(name, { create: true });
    return;
  }
  let folder = root;
  for (const part of parts) folder = await folder.getDirectoryHandle(part, { create: true });
}

async function remove(root: OpfsFolder, attempt: Attempt): Promise<void> {
  const { folder, name } = await parentAt(root, attempt);
  await folder.removeEntry(name, { recursive: true });
  // A tab that was closed may have left it.
  if (await entryAt(folder, [name + SWAP]) !== null) await folder.removeEntry(name + SWAP);
}

async function rename(area: Area, from: string, to: string): Promise<void> {
  const attempt: Attempt = { action: "rename", path: from }, aim: Attempt = { action: "rename", path: to };
  const [own, other] = [partsOf(attempt).join("/"), partsOf(aim).join("/")];
  if (`${other}/`.startsWith(`${own}/`) && other !== own) throw fileError("EINVAL", aim);
  const work = async (root: OpfsFolder): Promise<void> => {
    const source = await parentAt(root, attempt), target = await parentAt(root, aim);
    const found = await entryAt(source.folder, [source.name]);
    const there = await entryAt(target.folder, [target.name]);
    if (found === null) throw fileError("ENOENT", attempt);
    if (own === other) return;
    if (found.file !== undefined) {
      checkFile(there, aim);
      return await moveFile({ ...source, handle: found.file }, target);
    }
    if (there?.file !== undefined) throw fileError("ENOTDIR", { ...aim, kind: "folder" });
    if (there?.folder !== undefined && (await list(there.folder)).length > 0) {
      throw fileError("ENOTEMPTY", aim);
    }
    await moveFolder(root, { from: own, to: other });
  };
  // Nobody else may see a folder of which a part is elsewhere.
  const root = await area.root();
  await area.hold("tree", {}, async () => {
    await finishMove(root);
    await work(root);
  });
}

/** A lock of the browser ends with its page or worker, so that none is ever left behind. */
async function lock(area: Area, path: string, holder: string): Promise<AsyncDisposable | null> {
  const attempt: Attempt = { action: "lock", path }, name = partsOf(attempt).join("/");
  const over = Promise.withResolvers<void>(), taken = Promise.withResolvers<boolean>();
  const held = area.hold(`lock:${name}`, { ifAvailable: true }, async (granted) => {
    taken.resolve(granted !== null);
    if (granted !== null) await over.promise;
  });
  held.catch(taken.reject);
  if (!await taken.promise) return null;
  const release = async (): Promise<void> => {
    over.resolve();
    await held;
  };
  try {
    await write(area, attempt, holder);
  } catch (error) {
    await release();
    throw error;
  }
  return {
    async [Symbol.asyncDispose]() {
      try {
        const gone: Attempt = { action: "remove", path };
        await inOpfs(gone, () =>
          settled(area, async (root) => {
            if (await entryAt(root, partsOf(gone)) !== null) await remove(root, gone);
          }));
      } finally {
        await release();
      }
    },
  };
}
