/**
 * Uploads to a hub: a repository is made when there is none, and all files come into one commit.
 *
 * @module
 */

import { DataError, InputError, NotFoundError } from "../errors.ts";
import { shown } from "../json_rules.ts";
import { askAll, fetchFrom, understood } from "./ask.ts";
import type { HubName } from "./name.ts";
import type { Question } from "./refusal.ts";
import { addressOf, COMMIT, library, type Repository, repositoryAt } from "./repository.ts";
import type { Hub } from "./settings.ts";

/** What is uploaded. */
export interface Upload {
  readonly name: HubName;
  /** By path: bytes, or the address of a file of this machine, which is read when it is sent. */
  readonly contents: ReadonlyMap<string, URL | Uint8Array<ArrayBuffer>>;
  /** Paths of files that go. */
  readonly removed: readonly string[];
  /** The commit that was looked at; another one since then is refused. */
  readonly parent: string;
  readonly message: string;
  readonly question: Question;
  /** Called with bytes that were sent. */
  readonly onBytes: (bytes: number) => void;
}

/**
 * Looks at a repository, which is made when there is none, as is its branch.
 *
 * @param hub The hub
 * @param options The repository, and whether it is to be private
 * @returns What it holds
 * @throws {InputError} When it is public although it is to be private
 * @throws {HubError} When the hub refuses, or cannot be reached
 */
export async function seeToRepository(
  hub: Hub,
  { name, isPrivate, question }: {
    readonly name: HubName;
    readonly isPrivate: boolean | undefined;
    readonly question: Question;
  },
): Promise<Repository> {
  const { modelInfo, createRepo, createBranch } = await library();
  const { repository, revision } = name;
  const common = { hubUrl: hub.endpoint, fetch: fetchFrom(hub, question) };
  // The client wants a token; the one that is sent is that of the hub.
  const credentials = { credentials: { accessToken: "" } };
  const info = await orNull(() =>
    understood(question, () => modelInfo({ ...common, name: repository, revision: "main" }))
  );
  if (info === null) {
    const visibility = isPrivate === undefined ? undefined : isPrivate ? "private" : "public";
    await understood(question, () => createRepo({ ...common, ...credentials, repo: repository, visibility }));
  } else if (isPrivate && info.private !== true) {
    throw new InputError(
      `Cannot ${question.action} as --private asks for a private repository: it exists and is public; ` +
        "make it private on its page, or choose another name",
    );
  }
  const there = await orNull(() => repositoryAt(hub, name, question));
  if (there !== null) return there;
  await understood(question, () => createBranch({ ...common, repo: repository, branch: revision }));
  return await repositoryAt(hub, name, question);
}

async function orNull<T>(work: () => Promise<T>): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof NotFoundError) return null;
    throw error;
  }
}

/**
 * Reads a small file of a repository.
 *
 * @param hub The hub
 * @param file Which, and bytes that it may have
 * @returns Its content
 */
export async function readRemote(
  hub: Hub,
  { name, commit, path, limit, question }: {
    readonly name: HubName;
    readonly commit: string;
    readonly path: string;
    readonly limit: number;
    readonly question: Question;
  },
): Promise<Uint8Array<ArrayBuffer>> {
  const { bytes } = await askAll(hub, { url: addressOf(hub, { name, commit, path }), limit }, question);
  return bytes;
}

/**
 * Uploads files in one commit. Large ones go the way of Git LFS, not of Xet: the hub takes both, and the SHA-256 of LFS is
 * compared where a file arrives, without another protocol, its store and its tokens.
 *
 * @param hub The hub
 * @param upload What is uploaded
 * @returns Hash of the commit
 * @throws {HubError} When the hub refuses, or cannot be reached; then no commit was made
 */
export async function uploadFiles(hub: Hub, upload: Upload): Promise<string> {
  const { name, contents, removed, parent, message, question, onBytes } = upload;
  const { commit } = await library(), send = fetchFrom(hub, question);
  return await understood(question, async () => {
    const output = await commit({
      hubUrl: hub.endpoint,
      repo: name.repository,
      branch: name.revision,
      title: message,
      parentCommit: parent,
      useXet: false,
      fetch: async (input, init) => {
        const answer = await send(input, init);
        if (init?.method === "PUT" && init.body instanceof Blob) onBytes(init.body.size);
        return answer;
      },
      operations: [
        ...[...contents].map(([path, content]) => ({
          operation: "addOrUpdate" as const,
          path,
          content: content instanceof URL ? content : new Blob([content]),
        })),
        ...removed.map((path) => ({ operation: "delete" as const, path })),
      ],
    });
    const oid: unknown = output?.commit.oid;
    if (typeof oid === "string" && COMMIT.test(oid)) return oid;
    throw new DataError(
      `Cannot ${question.action} as the hub must name the commit that it made: got ${
        shown(oid)
      }; look at the repository`,
    );
  });
}
