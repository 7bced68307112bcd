/**
 * Chosen files of a repository in the cache, brought there when they are missing.
 *
 * @module
 */

import { NotFoundError } from "../errors.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import {
  cachedCommit,
  cachedFiles,
  keepCommit,
  keepFiles,
  type Place,
  placeOf,
  presentFiles,
  snapshotOf,
} from "./cache.ts";
import { type HubName, nameText } from "./name.ts";
import { type HubFile, type Repository, repositoryAt } from "./repository.ts";
import type { Question } from "./refusal.ts";
import { cacheFolder, type Hub, hubOf, type HubOptions, isOffline } from "./settings.ts";
import { bringFile } from "./transfer.ts";

/** Options of downloads. */
export interface DownloadOptions extends HubOptions {
  /** Whether to ask the hub for the commit of a branch that the cache knows; without it, the cache alone answers. */
  readonly refresh?: boolean;
  /** Called with bytes that have arrived, of those that are needed. */
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void;
}

/**
 * Chooses files: those to fetch first, then, when these are there, those that they name, and so on.
 *
 * @param paths All files of the commit; fewer, as far as the cache knows, when the hub cannot be asked
 * @param folder The folder of the commit
 * @throws {NotFoundError} When files are missing without which the rest is of no use
 */
export type Choose = (paths: readonly string[], folder: string) => AsyncIterable<readonly string[]>;

/** What is wanted of a repository. */
export interface Wanted {
  readonly choose: Choose;
  /** Whether files that another tool brought into the cache are likely all that is needed. */
  readonly isEnough: (paths: readonly string[]) => boolean;
  /** What is asked, for errors. */
  readonly question: Question;
}

/** Files of a commit in the cache. */
export interface Snapshot {
  /** Their folder. */
  readonly folder: string;
  /** Hash of the commit. */
  readonly commit: string;
  /** Paths of the chosen files in the folder. */
  readonly paths: readonly string[];
}

/** Files that are transferred at a time. */
const AT_A_TIME = 4;

/**
 * Sees to chosen files of a repository.
 *
 * @param name The repository and the revision
 * @param options What is chosen, the hub and the cache
 * @returns Where they are
 * @throws {NotFoundError} When there is no such repository, revision or file, or the cache lacks them and is all that may
 * be asked
 * @throws {HubError} When the hub refuses, or cannot be reached
 * @throws {DataError} When an answer is not one of a hub, or what arrives is not what the hub said
 * @throws {FileError} When the machine refuses it, such as for a full disk
 */
export async function fetchFiles(
  name: HubName,
  options: DownloadOptions & Wanted,
): Promise<Snapshot> {
  const { question, fileSystem = hostFileSystem(), refresh = false } = options;
  const cache = await cacheFolder(options), place = placeOf(name, { cache, fileSystem });
  const commit = await cachedCommit(place, name.revision);
  const found = commit === null || refresh ? null : await cached(place, commit, options);
  if (found !== null) return found;
  if (await isOffline(options)) return await cachedOnly(place, { name, commit, cache, ...options });
  const hub = await hubOf(options), repository = await repositoryAt(hub, name, question);
  await keepFiles(place, repository);
  const snapshot = await bring(place, { hub, name, repository, ...options });
  // Last: a revision that the cache knows is there as a whole.
  await keepCommit(place, name.revision, repository.commit);
  return snapshot;
}

/** The chosen files, when all of them are in the cache; null when not, or when that cannot be told. */
async function cached(place: Place, commit: string, { choose, isEnough }: Wanted): Promise<Snapshot | null> {
  const { fileSystem } = place, folder = snapshotOf(place, commit), paths: string[] = [];
  const listed = await cachedFiles(place, commit);
  const there = listed === null ? await presentFiles(place, commit) : [];
  if (listed === null && !isEnough(there)) return null;
  const sizes = new Map(listed?.map(({ path, size }) => [path, size]));
  try {
    for await (const chosen of choose(listed?.map(({ path }) => path) ?? there, folder)) {
      for (const path of chosen) {
        const info = await fileSystem.stat(`${folder}/${path}`);
        if (info === null || listed !== null && info.size !== sizes.get(path)) return null;
        paths.push(path);
      }
    }
  } catch (error) {
    if (error instanceof NotFoundError && listed === null) return null;
    throw error;
  }
  return { folder, commit, paths };
}

/** What the cache has of the chosen files, whoever brought it. */
async function cachedOnly(
  place: Place,
  { name, commit, cache, choose, question }: {
    readonly name: HubName;
    readonly commit: string | null;
    readonly cache: string;
    readonly choose: Choose;
    readonly question: Question;
  },
): Promise<Snapshot> {
  const fail = (seen: string, cause?: unknown): Error =>
    new NotFoundError(
      `Cannot ${question.action} as HF_HUB_OFFLINE allows nothing but the cache "${cache}": ${
        question.seen === undefined ? "" : `${question.seen}, and `
      }${seen}; unset it, or download "${nameText(name)}" first`,
      { cause },
    );
  if (commit === null) throw fail(`it does not know the revision "${name.revision}"`);
  const there = await presentFiles(place, commit), paths: string[] = [], folder = snapshotOf(place, commit);
  if (there.length === 0) throw fail(`it has no file of the revision "${name.revision}"`);
  const listed = (await cachedFiles(place, commit))?.map(({ path }) => path) ?? there;
  try {
    for await (const chosen of choose(listed, folder)) {
      const missing = chosen.find((path) => !there.includes(path));
      if (missing !== undefined) throw fail(`it lacks "${missing}"`);
      paths.push(...chosen);
    }
  } catch (error) {
    if (!(error instanceof NotFoundError) || listed !== there) throw error;
    throw fail("it has a part of its files, not those that are needed", error);
  }
  return { folder, commit, paths };
}

async function bring(
  place: Place,
  { hub, name, repository, choose, question, onProgress }: DownloadOptions & {
    readonly hub: Hub;
    readonly name: HubName;
    readonly repository: Repository;
    readonly choose: Choose;
    readonly question: Question;
  },
): Promise<Snapshot> {
  const { commit } = repository, folder = snapshotOf(place, commit), paths: string[] = [];
  const files = new Map<string, HubFile>(repository.files.map((file) => [file.path, file]));
  let done = 0, total = 0;
  const onBytes = (bytes: number): void => onProgress?.({ done: done += bytes, total });
  for await (const chosen of choose([...files.keys()], folder)) {
    const wanted = chosen.map((path) => {
      const file = files.get(path);
      if (file !== undefined) return file;
      throw new NotFoundError(
        `Cannot ${question.action} as the repository must have "${path}", which another of its files names: it has ` +
          "not; choose another revision",
      );
    });
    total += wanted.reduce((sum, { size }) => sum + size, 0);
    await inParallel(wanted, (file) => bringFile(place, file, { hub, name, commit, question, onBytes }));
    paths.push(...chosen);
  }
  return { folder, commit, paths };
}

/** Does the same with several at a time. After the first failure nothing else is begun. */
async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0, failed = false;
  const results = await Promise.allSettled(Array.from({ length: AT_A_TIME }, async () => {
    while (next < items.length && !failed) {
      await work(items[next++]).catch((error) => {
        failed = true;
        throw error;
      });
    }
  }));
  for (const result of results) if (result.status === "rejected") throw result.reason;
}
