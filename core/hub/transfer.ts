/**
 * The transfer of one file of a hub into the cache: it goes on where it was cut off, its hash is checked, and it appears
 * whole or not at all.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { DataError, HubError } from "../errors.ts";
import { processName } from "../host/process_name.ts";
import { ask, pause } from "./ask.ts";
import { type Place, snapshotOf } from "./cache.ts";
import { type HubName, isSafePath } from "./name.ts";
import { openPartial, type PartialFile } from "./partial.ts";
import { type Question, unreachable } from "./refusal.ts";
import { addressOf, type HubFile } from "./repository.ts";
import type { Hub } from "./settings.ts";

/** What is transferred, and who is told. */
export interface Transfer {
  readonly hub: Hub;
  readonly name: HubName;
  readonly commit: string;
  readonly question: Question;
  /** Called with bytes that have arrived; with less than 0 when some have to come again. */
  readonly onBytes: (bytes: number) => void;
}

/** Bytes that are written at a time. */
const CHUNK = 2 ** 22;

/** Connections that bring nothing, until the file is given up. */
const TRIES = 5;

/** Milliseconds without a byte, after which a connection counts as broken. */
const SILENCE = 60_000;

/** Milliseconds between two looks at a lock that is taken. */
const LOOK = 200;

/**
 * Brings a file of a commit into the cache, unless it is there. Of several processes one transfers it; the others wait.
 *
 * @param place Where the repository lies in the cache
 * @param file The file
 * @param transfer Whence
 * @throws {DataError} When its path leads out of the folder, or its content is not what the hub said
 * @throws {HubError} When the hub refuses, or cannot be reached
 * @throws {FileError} When the machine refuses it, such as for a full disk
 */
export async function bringFile(place: Place, file: HubFile, transfer: Transfer): Promise<void> {
  const { fileSystem, root, locks } = place, { onBytes, question } = transfer;
  if (!isSafePath(file.path)) {
    throw new DataError(
      `Cannot ${question.action} as its files must lie in one folder: "${
        file.path.slice(0, 200)
      }" may lead out of it; ` +
        "do not trust that repository",
    );
  }
  const path = `${snapshotOf(place, transfer.commit)}/${file.path}`, at = path.lastIndexOf("/");
  const parent = path.slice(0, at), blob = `${root}/blobs/${file.hash}`;
  const isThere = async (one: string): Promise<boolean> => (await fileSystem.stat(one))?.size === file.size;
  if (await isThere(path)) return onBytes(file.size);
  for (const folder of [`${root}/blobs`, parent, locks]) {
    await fileSystem.makeFolder(folder, { parents: true });
  }
  await using _lock = await waitFor(place, file.hash);
  if (await isThere(path)) return onBytes(file.size);
  if (await isThere(blob)) onBytes(file.size);
  else await transferBlob(blob, file, { ...transfer, place });
  // A link that leads nowhere, or to what another tool left half done.
  if ((await fileSystem.list(parent)).some(({ name }) => name === path.slice(at + 1))) {
    await fileSystem.remove(path);
  }
  const link = await endsOf(place, { path, blob });
  if (!await fileSystem.link?.(link.path, { to: link.blob })) await fileSystem.rename(blob, path);
}

/**
 * The two ends of a link without links between them: where Python's library shares content among repositories, a blob is a
 * link itself, and a hard one of it would lead nowhere.
 */
async function endsOf(
  { fileSystem, root }: Place,
  { path, blob }: { readonly path: string; readonly blob: string },
): Promise<{ readonly path: string; readonly blob: string }> {
  const nameOf = (file: string): string => file.slice(file.lastIndexOf("/") + 1);
  const entry = (await fileSystem.list(`${root}/blobs`)).find(({ name }) => name === nameOf(blob));
  if (entry?.kind !== "link") return { path, blob };
  const parent = await fileSystem.realPath(path.slice(0, path.lastIndexOf("/")));
  return { path: `${parent}/${nameOf(path)}`, blob: await fileSystem.realPath(blob) };
}

async function waitFor({ fileSystem, locks }: Place, hash: string): Promise<AsyncDisposable> {
  while (true) {
    const lock = await fileSystem.lock(`${locks}/${hash}.lock`, `${await processName()}\n`);
    if (lock !== null) return lock;
    await pause(LOOK);
  }
}

async function transferBlob(
  blob: string,
  file: HubFile,
  { place: { fileSystem }, ...transfer }: Transfer & { readonly place: Place },
): Promise<void> {
  const partial = await openPartial(blob, { file, fileSystem }), { question, hub } = transfer;
  // What was there before may be of another file: then the hash is wrong, and all of it is asked for once more.
  let resumed = partial.size() > 0;
  transfer.onBytes(partial.size());
  while (true) {
    await receiveAll(partial, file, transfer);
    if (partial.isRight()) return await partial.finish();
    transfer.onBytes(-partial.size());
    await partial.restart();
    if (!resumed) {
      const kind = file.hash.length === 64 ? "SHA-256" : "SHA-1 of git";
      throw new DataError(
        `Cannot ${question.action} as "${file.path}" must have the ${kind} ${file.hash}: what arrived has another; ` +
          `try again, or check the network and ${hub.endpoint}`,
      );
    }
    resumed = false;
  }
}

/** Receives what is missing; where a connection breaks, another goes on. */
async function receiveAll(partial: PartialFile, file: HubFile, transfer: Transfer): Promise<void> {
  const { hub, question } = transfer;
  for (let idle = 0; partial.size() < file.size;) {
    const before = partial.size();
    let failure: unknown = new HubError(
      `Cannot ${question.action} as ${hub.endpoint} must send all of "${file.path}": ` +
        "connections end too early; try again later, what has arrived is kept",
      { status: null },
    );
    try {
      await receive(partial, file, transfer);
    } catch (error) {
      if (!(error instanceof HubError) || error.status !== null) throw error;
      failure = error;
    }
    idle = partial.size() > before ? 0 : idle + 1;
    if (idle >= TRIES) throw failure;
    if (partial.size() < file.size) await pause(hub.retryDelay * 2 ** idle);
  }
}

/** Receives what one connection brings. */
async function receive(
  partial: PartialFile,
  file: HubFile,
  { hub, name, commit, question, onBytes }: Transfer,
): Promise<void> {
  const url = addressOf(hub, { name, commit, path: file.path }), controller = new AbortController();
  const range: Record<string, string> = partial.size() > 0 ? { Range: `bytes=${partial.size()}-` } : {};
  const headers = { "Accept-Encoding": "identity", ...range }, { signal } = controller;
  const answer = await ask(hub, { url, init: { headers, signal } }, question);
  const fail = (seen: string): Error =>
    new DataError(
      `Cannot ${question.action} as ${hub.endpoint} must send "${file.path}": ${seen}; try again later`,
    );
  if (partial.size() > 0 && answer.status === 200) {
    // It sends all of the file.
    onBytes(-partial.size());
    await partial.restart();
  } else if (partial.size() > 0) {
    const range = answer.headers.get("Content-Range") ?? "";
    if (!range.startsWith(`bytes ${partial.size()}-`)) {
      controller.abort();
      throw fail(`it sends another part, "${range.slice(0, 40)}"`);
    }
  }
  for await (const bytes of chunksOf(answer, { controller, url, hub, question })) {
    if (partial.size() + bytes.length > file.size) {
      controller.abort();
      throw fail(`it sends more than the ${counted(file.size, "byte")} that it has`);
    }
    await partial.append(bytes);
    onBytes(bytes.length);
  }
}

/**
 * The body of an answer in chunks of some size; what came before it broke comes before the error. A chunk is good until the
 * next one is asked for.
 */
async function* chunksOf(
  answer: Response,
  { controller, url, hub, question }: {
    readonly controller: AbortController;
    readonly url: string;
    readonly hub: Hub;
    readonly question: Question;
  },
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  if (answer.body === null) return;
  const reader = answer.body.getReader(), buffer = new Uint8Array(CHUNK);
  const silence = new DOMException("no byte came for a minute", "TimeoutError");
  let size = 0;
  while (true) {
    const timer = setTimeout(() => controller.abort(silence), SILENCE);
    let read: ReadableStreamReadResult<Uint8Array>;
    try {
      read = await reader.read();
    } catch (error) {
      if (size > 0) yield buffer.subarray(0, size);
      throw unreachable(error, { hub, url, question });
    } finally {
      clearTimeout(timer);
    }
    if (read.done) break;
    for (let at = 0; at < read.value.length;) {
      const part = read.value.subarray(at, at + CHUNK - size);
      buffer.set(part, size);
      at += part.length;
      if ((size += part.length) < CHUNK) continue;
      yield buffer;
      size = 0;
    }
  }
  if (size > 0) yield buffer.subarray(0, size);
}
