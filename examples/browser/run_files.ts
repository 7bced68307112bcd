/**
 * The files of a run: where each lies, and how it gets there.
 *
 * @module
 */

import { type FileSystem, LOCK_FILE, urlFileSystem } from "@firn/train/data";
import type { Given } from "./messages.ts";
import type { Place } from "./session.ts";

/** The folder of all of them. */
export const RUN = "run";

/** The newest checkpoint. */
export const CHECKPOINT = `${RUN}/last.safetensors`;

/** The log. */
export const LOG = `${RUN}/metrics.jsonl`;

/** The folder of a model that was picked. */
export const MODEL = `${RUN}/model`;

/** The model that the page brings. */
const OWN_FILES = [
  "README.md",
  "config.json",
  "model.safetensors",
  "tokenizer.json",
  "tokenizer_config.json",
];

/** Bytes that are read at once. */
const CHUNK = 2 ** 22;

/** Where a text lies. How it is read depends on the ending of its name. */
export function textPath(name: string): string {
  return `${RUN}/text${name.match(/\.(jsonl|json|csv|tsv)$/i)?.[0].toLowerCase() ?? ".txt"}`;
}

/** Writes what was given to a folder, which is made. */
export async function keepFiles(files: readonly Given[], { path, fileSystem }: Place): Promise<void> {
  await fileSystem.makeFolder(path, { parents: true });
  for (const { name, content } of files) await keepFile(content, { path: `${path}/${name}`, fileSystem });
}

/** Writes what was given. */
export async function keepFile(content: Blob, { path, fileSystem }: Place): Promise<void> {
  await fileSystem.write(path, chunksOf(content), { bytes: content.size });
}

async function* chunksOf(content: Blob): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0; at < content.size; at += CHUNK) {
    yield new Uint8Array(await content.slice(at, at + CHUNK).arrayBuffer());
  }
}

/** Removes the run. Its folder stays, with the lock. */
export async function forgetRun(fileSystem: FileSystem): Promise<void> {
  for (const { name } of await fileSystem.list(RUN)) {
    if (name !== LOCK_FILE) await fileSystem.remove(`${RUN}/${name}`);
  }
}

/**
 * The model that the page brings.
 *
 * @param base Address of the page
 * @returns Its folder, on the server of the page
 */
export function ownModel(base: string): Place {
  return { path: ".", fileSystem: urlFileSystem(new URL("sotu/", base), { files: OWN_FILES }) };
}
