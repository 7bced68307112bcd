/**
 * Models and adapters to a hub.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { pathInFolder } from "../host/path_in_folder.ts";
import { fileAddress } from "../host/paths.ts";
import { hubName } from "../hub/name.ts";
import { hubOf, type HubOptions, isOffline } from "../hub/settings.ts";
import { seeToRepository, uploadFiles } from "../hub/upload.ts";
import { CARD, chooseCard } from "./push_card.ts";
import { filesToPush, isSuperseded } from "./push_files.ts";

/** Options of {@link pushFolder}. */
export interface PushOptions extends HubOptions {
  /** Whether a repository that is made is private; as the hub makes it when absent. */
  readonly private?: boolean;
  /** The card, for a folder without a `README.md` that somebody wrote; `modelCard` of `@firn/train/report` writes one. */
  readonly card?: string;
  /** Whether that card may take the place of a `README.md` of the repository that somebody wrote. */
  readonly replaceCard?: boolean;
  /** First line of the message of the commit. */
  readonly message?: string;
  /** Called with bytes that were sent, of those of all files. */
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void;
}

/** What became of a push. */
export interface Pushed {
  /** Hash of the commit. */
  readonly commit: string;
  /** Address of the repository at its branch. */
  readonly url: string;
  /** Files of the folder that are there now, by path. */
  readonly files: readonly string[];
  /**
   * What was removed there, as it would be loaded in place of the new weights: those of a model, and an adapter beside it,
   * for the weights of a model; an adapter alone for an adapter; nothing for GGUF.
   */
  readonly removed: readonly string[];
  /** What of the folder stays here, as it is no part of a model. */
  readonly left: readonly string[];
  /** Whose card is there now: that of the folder, the one that was made, or that of the repository, which was kept. */
  readonly card: "folder" | "made" | "kept" | "none";
  /** Whether it took the place of one that somebody wrote. */
  readonly replaced: boolean;
}

/**
 * Uploads the folder of a model or an adapter in one commit: configuration, tokenizer, templates, card, weights. Other files
 * stay here. The repository is made when there is none, and what it has already is not sent again.
 *
 * A `README.md` that somebody wrote stays as it is: that of the folder goes along, that of the repository is kept unless
 * `replaceCard` says otherwise.
 *
 * @param folder The folder, as `saveModel` and `saveAdapter` write it
 * @param name `owner/name`, or `owner/name@branch`; a branch that there is not is made
 * @param options The hub and the token, by default as the environment says, and the card
 * @returns What became of it
 * @throws {InputError} When there is no token, or the repository is public although it is to be private
 * @throws {NotFoundError} When the folder holds no model
 * @throws {DataError} When weights are damaged, or a link leads out of the folder
 * @throws {HubError} When the hub refuses, or cannot be reached; then nothing of the folder is there
 *
 * @example
 * ```ts
 * import { assertRejects } from "@std/assert";
 * import { InputError } from "@firn/train";
 * import { pushFolder } from "@firn/train/hub";
 *
 * // With a token: const { url } = await pushFolder("out/finetune-1/model", "me/whales", { private: true });
 * const push = () => pushFolder("examples/models/sotu", "me/whales", { offline: false, endpoint: "http://0", token: null });
 * await assertRejects(push, InputError, "HF_TOKEN");
 * ```
 */
export async function pushFolder(folder: string, name: string, options: PushOptions = {}): Promise<Pushed> {
  const parsed = hubName(name, "model"), question = { action: `push "${folder}" to "${name}"` };
  const fail = (rule: string, seen: string) =>
    new InputError(`Cannot ${question.action} as ${rule}: ${seen}`);
  if (parsed.path !== "") {
    throw fail("a repository has the name owner/name", `"${parsed.path}" is too much; leave it out`);
  }
  const { fileSystem = hostFileSystem(), onProgress } = options;
  const { files, left } = await filesToPush(folder, options);
  if (await isOffline(options)) throw fail("the hub must be asked", "HF_HUB_OFFLINE forbids it; unset it");
  const hub = await hubOf(options);
  if (hub.token === null) {
    throw fail("the hub must know who you are", "there is no token; set HF_TOKEN, or run hf auth login");
  }
  const remote = await seeToRepository(hub, { name: parsed, isPrivate: options.private, question });
  const card = await chooseCard({
    ...options,
    fileSystem,
    folder,
    files,
    hub,
    name: parsed,
    remote,
    question,
  });
  const contents = new Map<string, URL | Uint8Array<ArrayBuffer>>();
  const root = await fileSystem.realPath(folder);
  let total = 0, done = 0;
  for (const path of files.filter((path) => path !== CARD)) {
    const at = await pathInFolder(folder, path, options);
    total += (await fileSystem.stat(at))!.size;
    contents.set(
      path,
      options.fileSystem === undefined ? fileAddress(`${root}/${path}`) : await fileSystem.read(at),
    );
  }
  if (card.bytes !== null) contents.set(CARD, card.bytes);
  const removed = remote.files.map(({ path }) => path).filter((path) =>
    isSuperseded(path, files) && !contents.has(path)
  );
  const commit = await uploadFiles(hub, {
    name: parsed,
    contents,
    removed,
    parent: remote.commit,
    message: options.message ?? "Upload from Firn",
    question,
    onBytes: (bytes) => onProgress?.({ done: done += bytes, total }),
  });
  const branch = parsed.revision === "main" ? "" : `/tree/${parsed.revision}`;
  return {
    commit,
    url: `${hub.endpoint}/${parsed.repository}${branch}`,
    files: [...contents.keys()].toSorted(),
    removed,
    left,
    card: card.from,
    replaced: card.replaces,
  };
}
