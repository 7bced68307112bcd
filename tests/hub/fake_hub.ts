/**
 * A hub on loopback that speaks the routes of Hugging Face, with a store on another port that large files come from, and
 * faults on request.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { answerTo } from "./fake_routes.ts";

/** A repository: the files of each commit, and the commits of revisions. */
export interface FakeRepository {
  readonly commits: Map<string, ReadonlyMap<string, Uint8Array<ArrayBuffer>>>;
  readonly refs: Map<string, string>;
  readonly access: "public" | "private" | "gated";
}

/** What a hub and its store share. */
export interface FakeState {
  /** By `models/owner/name` and `datasets/owner/name`. */
  readonly repositories: Map<string, FakeRepository>;
  /** Large files by SHA-256. */
  readonly store: Map<string, Uint8Array<ArrayBuffer>>;
  /** The token that opens what is not public. */
  readonly token: string;
  /** Files in an answer that lists them. */
  readonly page: number;
  /** Address of the hub. */
  readonly endpoint: string;
  /** Address of its store. */
  readonly cdn: string;
}

/** A request that was made. */
export interface Asked {
  readonly method: string;
  /** `/path` at the hub, `cdn/path` at the store. */
  readonly path: string;
  readonly range: string | null;
  readonly token: string | null;
}

/** A hub that serves. */
export interface FakeHub extends AsyncDisposable, FakeState {
  readonly asked: Asked[];
  /** Answers in place of the hub where it returns something; it gets what the hub would answer. */
  fault: (asked: Asked, answer: () => Promise<Response>) => Promise<Response | null> | Response | null;
}

/** The token that the hub knows. */
export const TOKEN = "hf_right";

/** Files of at least so many bytes are large, and all safetensors. */
export const isLarge = (path: string, bytes: Uint8Array): boolean =>
  /\.(safetensors|gguf|parquet)$/.test(path) || bytes.length >= 100_000;

/** SHA-256 in hexadecimal. */
export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** The hash of a file in git. */
export const gitHash = (bytes: Uint8Array): string =>
  createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");

/**
 * Makes a commit.
 *
 * @param state The hub
 * @param repository `models/owner/name` or `datasets/owner/name`
 * @param files Content by path
 * @param revision The branch
 * @returns Its hash
 */
export function addCommit(
  state: Pick<FakeState, "repositories" | "store">,
  repository: string,
  { files, revision = "main", access = "public" }: {
    readonly files: Readonly<Record<string, string | Uint8Array<ArrayBuffer>>>;
    readonly revision?: string;
    readonly access?: FakeRepository["access"];
  },
): string {
  const found = state.repositories.get(repository) ?? { commits: new Map(), refs: new Map(), access };
  state.repositories.set(repository, found);
  const content = new Map(
    Object.entries(files).map(([path, text]) => [
      path,
      typeof text === "string" ? new TextEncoder().encode(text) : text,
    ]),
  );
  for (const bytes of content.values()) state.store.set(sha256(bytes), bytes);
  const commit = createHash("sha1").update(`${repository} ${found.commits.size}`).digest("hex");
  found.commits.set(commit, content);
  found.refs.set(revision, commit);
  return commit;
}

/**
 * Starts a hub.
 *
 * @param options Files in an answer that lists them
 * @returns The hub; it ends when it is disposed of
 */
export function startHub({ page = 1000 }: { readonly page?: number } = {}): FakeHub {
  const asked: Asked[] = [];
  const serve = (place: "hub" | "cdn"): Deno.HttpServer<Deno.NetAddr> =>
    Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
      const { pathname } = new URL(request.url);
      const one: Asked = {
        method: request.method,
        path: place === "hub" ? pathname : `cdn${pathname}`,
        range: request.headers.get("Range"),
        token: request.headers.get("Authorization")?.replace(/^Bearer /, "") ?? null,
      };
      asked.push(one);
      const answer = () => answerTo(hub, request, place);
      return await hub.fault(one, answer) ?? await answer();
    });
  const servers = [serve("hub"), serve("cdn")],
    [endpoint, cdn] = servers.map(({ addr }) => `http://127.0.0.1:${addr.port}`);
  const hub: FakeHub = {
    repositories: new Map(),
    store: new Map(),
    token: TOKEN,
    page,
    endpoint,
    cdn,
    asked,
    fault: () => null,
    async [Symbol.asyncDispose]() {
      await Promise.all(servers.map((server) => server.shutdown()));
    },
  };
  return hub;
}

/** An answer whose connection breaks after some bytes of its body. */
export async function cut(answer: Response, after: number): Promise<Response> {
  const bytes = new Uint8Array(await answer.arrayBuffer());
  const body = new Blob([bytes.subarray(0, after)]).stream();
  const headers = new Headers(answer.headers);
  headers.set("Content-Length", String(bytes.length));
  return new Response(body, { status: answer.status, headers });
}
