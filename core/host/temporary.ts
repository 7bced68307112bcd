/**
 * Temporary files and folders, and what dead processes left of them.
 *
 * @module
 */

import type { FileSystem } from "./file_system.ts";
import { nodeProcess } from "./node.ts";
import { joined, parentOf, slashed } from "./paths.ts";

/** Paths beside a path, for one replacement of what is there. */
export interface TemporaryPaths {
  /** Where the new content is written. */
  readonly fresh: string;
  /** Where the old content is put while the new one takes its path. */
  readonly old: string;
}

const LEFTOVER = /^(.+)\.(\d+-[0-9a-f]{12})\.(tmp|old)$/s;

/**
 * The path whose place a temporary file takes.
 *
 * @param path A path
 * @returns That path, or the same one when it is not that of a temporary file
 */
export function finalPath(path: string): string {
  return path.replace(LEFTOVER, "$1");
}

/**
 * Names temporary files: after the path, with the id of the process, for who finds one, and a random part.
 *
 * @param path The path
 * @returns Two paths that do not exist
 */
export function temporaryPath(path: string): TemporaryPaths {
  const id = `${(globalThis.Deno ?? nodeProcess())?.pid ?? 0}-${crypto.randomUUID().slice(-12)}`;
  return { fresh: `${path}.${id}.tmp`, old: `${path}.${id}.old` };
}

/**
 * Removes what writers that died left in a folder, and ends replacements of folders that were cut short.
 *
 * @param folder The folder; nothing else may write in it
 * @param fileSystem Where it is
 */
export async function removeLeftovers(folder: string, fileSystem: FileSystem): Promise<void> {
  const { prefix, found } = await leftoversIn(folder, fileSystem);
  for (const { base } of found) await finishReplacement(prefix + base, fileSystem);
  for (const { name } of found) {
    if (await fileSystem.stat(prefix + name) !== null) await fileSystem.remove(prefix + name);
  }
}

/**
 * Ends the replacement of a folder that was cut short. When a process died after it had put the old folder away, the new
 * one is complete, and takes its path now; when there is no new one, the old one is put back.
 *
 * @param path The folder
 * @param fileSystem Where it is
 */
export async function finishReplacement(path: string, fileSystem: FileSystem): Promise<void> {
  if (await fileSystem.stat(path) !== null) return;
  const { prefix, found } = await leftoversIn(parentOf(path), fileSystem);
  const own = found.filter(({ base }) => base === slashed(path).replace(/^.*\//s, ""));
  const old = own.find(({ ending }) => ending === "old");
  if (old === undefined) return;
  const fresh = own.find(({ id, ending }) => id === old.id && ending === "tmp") ?? old;
  await fileSystem.rename(prefix + fresh.name, path);
  if (fresh !== old) await fileSystem.remove(prefix + old.name);
}

interface Leftover {
  readonly name: string;
  /** Name of what was to be replaced. */
  readonly base: string;
  readonly id: string;
  readonly ending: string;
}

async function leftoversIn(
  folder: string,
  fileSystem: FileSystem,
): Promise<{ readonly prefix: string; readonly found: readonly Leftover[] }> {
  const found = (await fileSystem.list(folder)).flatMap(({ name }): Leftover[] => {
    const [, base, id, ending] = LEFTOVER.exec(name) ?? [];
    return base === undefined ? [] : [{ name, base, id, ending }];
  });
  return { prefix: joined(folder, ""), found };
}
