/**
 * Moves in the file system of a site. A browser moves a file at once, and no folder: a folder is moved file by file, and a record
 * of it stands in the root until it has ended, so that it is never left half moved.
 *
 * @module
 */

import type { OpfsFile, OpfsFolder, OpfsWritable } from "./opfs_handles.ts";
import { entryAt, type Place } from "./opfs_paths.ts";

/** Name of the record, in the root. */
export const MOVE_RECORD = ".firn.move";

/** Bytes that are copied at a time where a browser does not move files. */
const PIECE = 2 ** 22;

/** Paths of a folder that moves, from the root. */
export interface Move {
  /** Where it was. */
  readonly from: string;
  /** Where it will be: nothing, or an empty folder. */
  readonly to: string;
}

/** Moves a file; it takes the place of the one that is there. */
export async function moveFile(source: Place & { readonly handle: OpfsFile }, target: Place): Promise<void> {
  const { handle, folder, name } = source;
  if (handle.move !== undefined) {
    await handle.move(target.folder, target.name);
    return;
  }
  const there = await entryAt(target.folder, [target.name]), content = await handle.getFile();
  const copy = await target.folder.getFileHandle(target.name, { create: true });
  let writable: OpfsWritable | undefined;
  try {
    writable = await copy.createWritable();
    for (let at = 0; at < content.size; at += PIECE) {
      await writable.write(new Uint8Array(await content.slice(at, at + PIECE).arrayBuffer()));
    }
    await writable.close();
  } catch (error) {
    // The first error counts.
    await writable?.abort().catch(() => {});
    if (there === null) await target.folder.removeEntry(target.name).catch(() => {});
    throw error;
  }
  await folder.removeEntry(name);
}

/** Moves a folder; when that fails, it is back where it was. Nothing else may use the root meanwhile. */
export async function moveFolder(root: OpfsFolder, move: Move): Promise<void> {
  const record = await root.getFileHandle(MOVE_RECORD, { create: true });
  try {
    const writable = await record.createWritable();
    await writable.write(new TextEncoder().encode(JSON.stringify(move)));
    await writable.close();
    await moveContent(root, move);
  } catch (error) {
    await moveBack(root, move);
    await root.removeEntry(MOVE_RECORD);
    throw error;
  }
  await root.removeEntry(MOVE_RECORD);
}

/**
 * Ends the move that a closed tab began; where that cannot be, as the site has no more room, the folder goes back. Nothing else may
 * use the root meanwhile.
 */
export async function finishMove(root: OpfsFolder): Promise<void> {
  const record = await entryAt(root, [MOVE_RECORD]);
  if (record?.file === undefined) return;
  const text = await (await record.file.getFile()).text();
  // It is empty when the tab was closed before it was written: then nothing was moved.
  if (text !== "") {
    const { from, to }: Move = JSON.parse(text);
    await moveContent(root, { from, to }).catch(() => moveBack(root, { from, to }));
  }
  await root.removeEntry(MOVE_RECORD);
}

/** What is still where it was is whole; its copy may be half of it. */
const moveBack = (root: OpfsFolder, { from, to }: Move): Promise<void> =>
  moveContent(root, { from: to, to: from, keep: true });

/**
 * Moves what is in a folder, and then removes it. It can be done again after it was cut short at any place. With `keep`, files that
 * are there already stay.
 */
async function moveContent(
  root: OpfsFolder,
  { from, to, keep = false }: Move & { readonly keep?: boolean },
): Promise<void> {
  const source = from.split("/"), target = to.split("/");
  const old = await entryAt(root, source);
  if (old?.folder === undefined) return;
  const parent = await entryAt(root, target.slice(0, -1));
  await moveInto(
    old.folder,
    await parent!.folder!.getDirectoryHandle(target.at(-1)!, { create: true }),
    keep,
  );
  const holder = await entryAt(root, source.slice(0, -1));
  await holder!.folder!.removeEntry(source.at(-1)!, { recursive: true });
}

async function moveInto(from: OpfsFolder, to: OpfsFolder, keep: boolean): Promise<void> {
  for (const { name, kind } of await Array.fromAsync(from.values())) {
    if (kind === "file") {
      if (keep && await entryAt(to, [name]) !== null) continue;
      const handle = await from.getFileHandle(name);
      await moveFile({ folder: from, name, handle }, { folder: to, name });
    } else {
      const inner = await from.getDirectoryHandle(name);
      await moveInto(inner, await to.getDirectoryHandle(name, { create: true }), keep);
      await from.removeEntry(name, { recursive: true });
    }
  }
}
