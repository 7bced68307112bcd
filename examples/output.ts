/**
 * Output folders of the examples.
 *
 * @module
 */

import { AlreadyExistsError, InputError, NotFoundError } from "@firn/train";
import { type FileSystem, hostFileSystem, LOCK_FILE, trimmedPath } from "@firn/train/data";
import { fileUrl } from "./policies.ts";

const CHECKPOINT = "checkpoint.safetensors", LOG = "metrics.jsonl";

/** Where the files are; the machine's file system when absent. */
interface Files {
  readonly fileSystem?: FileSystem;
}

/** Path of the checkpoint in an output folder; there is none once the run is finished. */
export function lastCheckpoint(folder: string): string {
  return `${trimmedPath(folder)}/${CHECKPOINT}`;
}

/** Path of the best state of a run, which stays. */
export function bestCheckpoint(folder: string): string {
  return lastCheckpoint(folder).replace(/(?=\.[^.]*$)/, ".best");
}

/**
 * Finds out whether a folder can be that of a run, before any work and without writing.
 *
 * @param folder The folder
 * @param options `resumed`: it holds a run that goes on; `model`: the folder of the model that the run begins with; `name`: of
 * the argument that gave the folder, `--out` when absent
 * @throws {AlreadyExistsError} When it holds something: nothing is overwritten
 * @throws {InputError} When it is no folder, or one of the two folders holds the other
 * @throws {FileError} When it cannot be read
 */
export async function checkOutput(
  folder: string,
  { resumed, model, name = "--out", fileSystem = hostFileSystem() }: Files & {
    readonly resumed: boolean;
    readonly model?: string;
    readonly name?: string;
  },
): Promise<void> {
  const info = await fileSystem.stat(folder);
  if (info !== null && info.kind !== "folder") {
    const seen = info.kind === "file" ? "file" : "device, a pipe or a socket";
    throw new InputError(
      `Cannot write to "${folder}" as it must be a folder: it is a ${seen}; choose another ${name}`,
    );
  }
  if (info === null) await checkWay(folder, fileSystem);
  if (model !== undefined) await checkApart(folder, { model, name, fileSystem });
  // A lock tells who has the folder.
  const entries = resumed || info === null ? [] : await fileSystem.list(folder);
  const held = entries.filter(({ name }) => name !== LOCK_FILE);
  if (held.length === 0) return;
  // A run that failed before it began leaves an empty log.
  const neverBegan = held.length === 1 && held[0].name === LOG;
  if (neverBegan && (await fileSystem.stat(`${folder}/${LOG}`))?.size === 0) return;
  const resumable = held.some(({ name }) => name === CHECKPOINT);
  throw new AlreadyExistsError(
    `Cannot write to "${folder}" as it must be empty: it holds "${held[0].name}"; choose another ${name}${
      resumable ? `, or go on with --resume ${folder}` : ""
    }`,
  );
}

/** Refuses the path of a folder that cannot come to be, as a part of it is a file or may not be read. */
async function checkWay(folder: string, fileSystem: FileSystem): Promise<void> {
  try {
    await fileSystem.realPath(folder);
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
  }
}

/** Refuses an output folder that holds the model's or lies in it, by the names of both and by where their links lead. */
async function checkApart(
  folder: string,
  { model, name = "--out", fileSystem }: {
    readonly model: string;
    readonly name?: string;
    readonly fileSystem: FileSystem;
  },
): Promise<void> {
  const placesOf = async (path: string): Promise<readonly string[]> =>
    [path, ...await fileSystem.stat(path) === null ? [] : [await fileSystem.realPath(path)]]
      .map((one) => fileUrl(one).pathname.replace(/\/*$/, "/"));
  const models = await placesOf(model);
  const overlap = (await placesOf(folder)).some((a) =>
    models.some((b) => a.startsWith(b) || b.startsWith(a))
  );
  if (!overlap) return;
  throw new InputError(
    `Cannot write to "${folder}" as it must lie apart from the model's folder: that is "${model}"; choose another ${name}`,
  );
}

/**
 * Makes an output folder, and finds out early whether it can be written.
 *
 * @param folder The folder
 * @param options As of {@link checkOutput}
 * @returns The folder
 * @throws {AlreadyExistsError} When it holds something: nothing is overwritten
 * @throws {FileError} When it cannot be written
 */
export async function claimFolder(
  folder: string,
  options: Files & { readonly resumed: boolean; readonly model?: string; readonly name?: string },
): Promise<string> {
  const { fileSystem = hostFileSystem() } = options;
  const place = trimmedPath(folder);
  await checkOutput(place, options);
  const isNew = await fileSystem.stat(place) === null;
  await fileSystem.makeFolder(place, { parents: true });
  try {
    // Only now is it known where a link in the path leads.
    if (options.model !== undefined) {
      await checkApart(place, { ...options, model: options.model, fileSystem });
    }
  } catch (error) {
    if (isNew && (await fileSystem.list(place)).length === 0) await fileSystem.remove(place);
    throw error;
  }
  const probe = `${place}/.firn-${crypto.randomUUID()}`;
  await fileSystem.write(probe, "");
  await fileSystem.remove(probe);
  return place;
}

/**
 * Finds a name for an output folder.
 *
 * @param stem What comes before the number
 * @param options The file system
 * @returns The first of `stem-1`, `stem-2` and so on that does not exist
 * @throws {FileError} When it cannot be told
 */
export async function nextFree(stem: string, { fileSystem = hostFileSystem() }: Files = {}): Promise<string> {
  for (let n = 1;; n++) if (await fileSystem.stat(`${stem}-${n}`) === null) return `${stem}-${n}`;
}
