/**
 * The cache of Hugging Face, as `huggingface_hub` for Python lays it out: a folder for each repository, in it the content
 * of files by hash (`blobs`), the commits of revisions (`refs`) and the files of commits (`snapshots`), which are links to
 * blobs. What a hub says that a commit holds is kept beside them, so that it need not be asked again.
 *
 * @module
 */

import { DataError } from "../errors.ts";
import type { FileSystem } from "../host/file_system.ts";
import { readJson } from "../host/json_file.ts";
import type { HubName } from "./name.ts";
import { COMMIT, fileOf, type HubFile, type Repository } from "./repository.ts";

/** The place of a repository in a cache. */
export interface Place {
  readonly fileSystem: FileSystem;
  /** Folder of the repository. */
  readonly root: string;
  /** Folder of its locks. */
  readonly locks: string;
}

/** Bytes of a file that holds the hash of a commit. */
const REF_LIMIT = 200;

/** Where a repository lies in a cache. */
export function placeOf(
  { kind, repository }: HubName,
  { cache, fileSystem }: { readonly cache: string; readonly fileSystem: FileSystem },
): Place {
  const folder = `${kind}s--${repository.replace("/", "--")}`;
  return { fileSystem, root: `${cache}/${folder}`, locks: `${cache}/.locks/${folder}` };
}

/** The folder of the files of a commit. */
export const snapshotOf = ({ root }: Place, commit: string): string => `${root}/snapshots/${commit}`;

const listPath = ({ root }: Place, commit: string): string => `${root}/.firn/${commit}.json`;

/**
 * Looks up the commit of a revision.
 *
 * @returns Its hash; null when the cache does not know it
 * @throws {DataError} When the file that tells it is damaged
 */
export async function cachedCommit({ fileSystem, root }: Place, revision: string): Promise<string | null> {
  if (COMMIT.test(revision)) return revision;
  const path = `${root}/refs/${revision}`;
  if ((await fileSystem.stat(path))?.kind !== "file") return null;
  const text = new TextDecoder().decode(await fileSystem.read(path, { limit: REF_LIMIT })).trim();
  if (COMMIT.test(text)) return text;
  throw new DataError(
    `Cannot read "${path}" as it must hold the 40 digits of the hash of a commit: it does not; remove it`,
  );
}

/** Keeps the commit of a revision. */
export async function keepCommit(place: Place, revision: string, commit: string): Promise<void> {
  if (COMMIT.test(revision)) return;
  const { fileSystem, root } = place, path = `${root}/refs/${revision}`;
  await fileSystem.makeFolder(path.slice(0, path.lastIndexOf("/")), { parents: true });
  await fileSystem.write(path, commit);
}

/**
 * Looks up what a commit holds.
 *
 * @returns Its files; null when the hub was not asked yet
 * @throws {DataError} When the file that tells it is damaged
 */
export async function cachedFiles(place: Place, commit: string): Promise<readonly HubFile[] | null> {
  const { fileSystem } = place, path = listPath(place, commit);
  if (await fileSystem.stat(path) === null) return null;
  const { files } = await readJson(path, { fileSystem });
  const read = Array.isArray(files) ? files.map(savedFile) : [null];
  if (!read.includes(null)) return read as readonly HubFile[];
  throw new DataError(`Cannot read "${path}" as it must list files of a hub: it does not; remove it`);
}

/** A listed file, by the rules of an answer of the hub. */
function savedFile(entry: { readonly hash?: unknown }): HubFile | null {
  const { hash } = entry ?? {};
  const isLarge = typeof hash === "string" && hash.length === 64;
  const found = fileOf({ ...entry, type: "file", oid: hash, ...isLarge && { lfs: { ...entry, oid: hash } } });
  return found === "none" ? null : found;
}

/** Keeps what a commit holds. */
export async function keepFiles(place: Place, { commit, files }: Repository): Promise<void> {
  const path = listPath(place, commit);
  await place.fileSystem.makeFolder(path.slice(0, path.lastIndexOf("/")), { parents: true });
  await place.fileSystem.write(path, JSON.stringify({ files }));
}

/** Paths of the files of a commit that are in the cache, whoever put them there. */
export async function presentFiles({ fileSystem, root }: Place, commit: string): Promise<string[]> {
  const paths: string[] = [], top = snapshotOf({ fileSystem, root, locks: "" }, commit);
  const walk = async (folder: string, depth: number): Promise<void> => {
    for (const { name, kind } of await fileSystem.list(folder === "" ? top : `${top}/${folder}`)) {
      const path = folder === "" ? name : `${folder}/${name}`;
      if (kind !== "folder") paths.push(path);
      else if (depth < DEEPEST) await walk(path, depth + 1);
    }
  };
  if (await fileSystem.stat(top) !== null) await walk("", 0);
  return paths;
}

/** Folders in folders. */
const DEEPEST = 10;
