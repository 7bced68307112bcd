/**
 * What a repository holds at a revision, as its hub says.
 *
 * @module
 */

import type * as Library from "@huggingface/hub";
import { DataError } from "../errors.ts";
import { isCount, isRecord, shorten } from "../json_rules.ts";
import { fetchFrom, understood } from "./ask.ts";
import type { HubName } from "./name.ts";
import type { Question } from "./refusal.ts";
import type { Hub } from "./settings.ts";

/** A file of a repository. */
export interface HubFile {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** SHA-256 of a large file; of a small one that of git, the SHA-1 of a header and the content. In hexadecimal. */
  readonly hash: string;
}

/** A repository at a commit. */
export interface Repository {
  /** Hash of the commit. */
  readonly commit: string;
  readonly files: readonly HubFile[];
}

/** Not imported as a literal, so that who needs no hub does not download it. */
const PACKAGE = "npm:@huggingface/hub@2.17.5";

/** Files of a repository; the largest have some ten thousand. */
const MOST_FILES = 200_000;

/** A hash of git: 40 digits. */
export const COMMIT = /^[0-9a-f]{40}$/;

/** The client of Hugging Face, loaded when it is first needed. */
export async function library(): Promise<typeof Library> {
  return await import(PACKAGE);
}

/**
 * Asks for the commit of a revision, and for its files.
 *
 * @param hub The hub
 * @param name The repository and the revision
 * @param question What is asked, for errors
 * @returns Both
 * @throws {NotFoundError} When there is none
 * @throws {HubError} When the hub refuses, or cannot be reached
 * @throws {DataError} When an answer is not one of a hub
 */
export async function repositoryAt(
  hub: Hub,
  { kind, repository, revision }: HubName,
  question: Question,
): Promise<Repository> {
  const { modelInfo, datasetInfo, listFiles } = await library();
  const common = { hubUrl: hub.endpoint, fetch: fetchFrom(hub, question) };
  const fail = (rule: string, seen: unknown): Error =>
    new DataError(
      `Cannot ${question.action} as ${rule}: got ${
        shorten(JSON.stringify(seen) ?? "nothing")
      }; check HF_ENDPOINT`,
    );
  return await understood(question, async () => {
    const asked = { ...common, name: repository, revision };
    const { sha } = kind === "model"
      ? await modelInfo({ ...asked, additionalFields: ["sha"] })
      : await datasetInfo({ ...asked, additionalFields: ["sha"] });
    if (typeof sha !== "string" || !COMMIT.test(sha)) {
      throw fail("the hub must name the commit by the 40 digits of its hash", sha);
    }
    const files: HubFile[] = [];
    const repo = { type: kind, name: repository };
    let seen = 0;
    for await (const entry of listFiles({ ...common, repo, revision: sha, recursive: true })) {
      if (++seen > MOST_FILES) throw fail(`a repository may have ${MOST_FILES} files`, "more");
      const file = fileOf(entry);
      if (file === null) throw fail("the hub must tell path, size and hash of each file", entry);
      if (file !== "none") files.push(file);
    }
    return { commit: sha, files };
  });
}

/** A file of a list; `none` for a folder, null for what is neither. */
export function fileOf(entry: unknown): HubFile | "none" | null {
  if (!isRecord(entry)) return null;
  if (entry.type === "directory") return "none";
  const { path, size, oid, lfs } = entry, large = isRecord(lfs);
  const hash = large ? lfs.oid : oid, bytes = large ? lfs.size : size;
  if (typeof path !== "string" || typeof hash !== "string" || !isCount(bytes)) return null;
  return (large ? /^[0-9a-f]{64}$/ : COMMIT).test(hash) ? { path, size: bytes, hash } : null;
}

/** The address of the content of a file. Where it is large, the hub leads on to a store; Xet's is read the same way. */
export function addressOf(
  { endpoint }: Hub,
  { name: { kind, repository }, commit, path }: {
    readonly name: HubName;
    readonly commit: string;
    readonly path: string;
  },
): string {
  const prefix = kind === "model" ? "" : `${kind}s/`;
  return `${endpoint}/${prefix}${repository}/resolve/${commit}/${
    path.split("/").map(encodeURIComponent).join("/")
  }`;
}
