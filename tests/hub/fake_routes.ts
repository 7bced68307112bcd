/**
 * The routes of the hub of Hugging Face, and of its store of large files.
 *
 * @module
 */

import { addCommit, type FakeRepository, type FakeState, gitHash, isLarge, sha256 } from "./fake_hub.ts";

const json = (value: unknown, init?: ResponseInit): Response => Response.json(value, init);

const refuse = (status: number, code: string, message: string): Response =>
  json({ error: message }, { status, headers: { "X-Error-Code": code, "X-Error-Message": message } });

const NAME = "([^/]+/[^/]+?)";
const ROUTES: readonly (readonly [method: string, pattern: RegExp, route: Route])[] = [
  ["POST", /^\/api\/repos\/create$/, create],
  ["POST", new RegExp(`^/(datasets/)?${NAME}\\.git/info/lfs/objects/batch$`), batch],
  ["GET", new RegExp(`^/api/(models|datasets)/${NAME}/tree/([^/]+)$`), tree],
  ["GET", new RegExp(`^/api/(models|datasets)/${NAME}(?:/revision/([^/]+))?$`), info],
  ["POST", new RegExp(`^/api/(models|datasets)/${NAME}/preupload/([^/]+)$`), preupload],
  ["POST", new RegExp(`^/api/(models|datasets)/${NAME}/commit/([^/]+)$`), commit],
  ["POST", new RegExp(`^/api/(models|datasets)/${NAME}/branch/([^/]+)$`), branch],
  ["GET", new RegExp(`^/(datasets/)?${NAME}/resolve/([^/]+)/(.+)$`), resolve],
];

interface Call {
  readonly state: FakeState;
  readonly request: Request;
  readonly url: URL;
  readonly groups: readonly (string | undefined)[];
}

type Route = (call: Call) => Response | Promise<Response>;

/** Answers a request. */
export async function answerTo(state: FakeState, request: Request, place: "hub" | "cdn"): Promise<Response> {
  const url = new URL(request.url);
  const upload = /^\/lfs\/([0-9a-f]{64})$/.exec(url.pathname);
  if (place === "cdn" && request.method === "PUT" && upload !== null) {
    return await put({ state, request, url, groups: upload.slice(1) });
  }
  if (place === "cdn") {
    const bytes = state.store.get(url.pathname.slice(1));
    return bytes === undefined ? new Response("none", { status: 404 }) : part(request, bytes, {});
  }
  const asked = request.method === "HEAD" ? "GET" : request.method;
  for (const [method, pattern, route] of ROUTES) {
    const match = pattern.exec(url.pathname);
    if (match === null || method !== asked) continue;
    const groups = match.slice(1).map((group) => group && decodeURIComponent(group));
    return await route({ state, request, url, groups });
  }
  return json({ error: "Not found" }, { status: 404 });
}

const isKnown = ({ state, request }: Call): boolean =>
  request.headers.get("Authorization") === `Bearer ${state.token}`;

/** The repository, or why not. */
function found(call: Call, kind: string, name: string): FakeRepository | Response {
  const repository = call.state.repositories.get(`${kind}/${name}`), known = isKnown(call);
  if (repository === undefined || repository.access === "private" && !known) {
    if (!known) return json({ error: "Invalid username or password." }, { status: 401 });
    return refuse(404, "RepoNotFound", "Repository not found");
  }
  if (repository.access === "gated" && !known) {
    return refuse(
      401,
      "GatedRepo",
      `Access to model ${name} is restricted. You must be authenticated to access it.`,
    );
  }
  return repository;
}

const commitOf = ({ refs, commits }: FakeRepository, revision: string): string | null =>
  refs.get(revision === "HEAD" ? "main" : revision) ?? (commits.has(revision) ? revision : null);

function info(call: Call): Response {
  const [kind, name, revision = "main"] = call.groups as [string, string, string | undefined];
  const repository = found(call, kind, name);
  if (repository instanceof Response) return repository;
  const sha = commitOf(repository, revision);
  if (sha === null) return refuse(404, "RevisionNotFound", `Invalid rev id: ${revision}`);
  return json({
    _id: "0123456789abcdef01234567",
    id: name,
    sha,
    private: repository.access === "private",
    gated: false,
    downloads: 0,
    likes: 0,
    tags: [],
    lastModified: "2026-01-01T00:00:00.000Z",
    createdAt: "2026-01-01T00:00:00.000Z",
    siblings: [...repository.commits.get(sha)!.keys()].map((rfilename) => ({ rfilename })),
  });
}

function tree(call: Call): Response {
  const [kind, name, revision] = call.groups as [string, string, string];
  const repository = found(call, kind, name);
  if (repository instanceof Response) return repository;
  const files = [...repository.commits.get(commitOf(repository, revision)!)!].map(([path, bytes]) => ({
    type: "file",
    path,
    size: bytes.length,
    oid: gitHash(bytes),
    ...isLarge(path, bytes) && { lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 130 } },
  }));
  const folders = [
    ...new Set(files.flatMap(({ path }) => path.includes("/") ? [path.replace(/\/.*/, "")] : [])),
  ]
    .map((path) => ({ type: "directory", path, size: 0, oid: "0".repeat(40) }));
  const entries = [...folders, ...files], { page } = call.state;
  const first = Number(call.url.searchParams.get("cursor") ?? 0), next = new URL(call.url);
  next.searchParams.set("cursor", String(first + page));
  const more = first + page < entries.length;
  return json(entries.slice(first, first + page), more ? { headers: { Link: `<${next}>; rel="next"` } } : {});
}

function resolve(call: Call): Response {
  const [prefix, name, revision, path] = call.groups as [string | undefined, string, string, string];
  const repository = found(call, prefix === undefined ? "models" : "datasets", name);
  if (repository instanceof Response) return repository;
  const commit = commitOf(repository, revision);
  if (commit === null) return refuse(404, "RevisionNotFound", `Invalid rev id: ${revision}`);
  const bytes = repository.commits.get(commit)!.get(path);
  if (bytes === undefined) return refuse(404, "EntryNotFound", `${path} does not exist`);
  const common = { "X-Repo-Commit": commit, "Accept-Ranges": "bytes" };
  if (!isLarge(path, bytes)) return part(call.request, bytes, { ...common, ETag: `"${gitHash(bytes)}"` });
  const hash = sha256(bytes);
  return new Response(null, {
    status: 302,
    headers: {
      ...common,
      Location: `${call.state.cdn}/${hash}`,
      "X-Linked-ETag": `"${hash}"`,
      "X-Linked-Size": String(bytes.length),
    },
  });
}

/** A file, or the part of it that is asked for. */
function part(request: Request, bytes: Uint8Array<ArrayBuffer>, headers: Record<string, string>): Response {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.get("Range") ?? "") ?? [];
  if (first === undefined) {
    return new Response(request.method === "HEAD" ? null : bytes, {
      headers: { ...headers, "Content-Length": String(bytes.length) },
    });
  }
  const end = last === "" ? bytes.length : Math.min(bytes.length, Number(last) + 1);
  if (Number(first) >= bytes.length) return new Response("out of range", { status: 416 });
  const range = `bytes ${first}-${end - 1}/${bytes.length}`;
  return new Response(bytes.slice(Number(first), end), {
    status: 206,
    headers: { ...headers, "Content-Range": range },
  });
}

async function create(call: Call): Promise<Response> {
  if (!isKnown(call)) return json({ error: "Invalid username or password." }, { status: 401 });
  const { name, organization, type = "model", visibility, private: hidden } = await call.request.json();
  const id = `${organization}/${name}`, key = `${type}s/${id}`;
  const url = `${call.state.endpoint}/${type === "model" ? "" : `${type}s/`}${id}`;
  if (call.state.repositories.has(key)) {
    return json({ error: "You already created this repo", url }, { status: 409 });
  }
  const access = visibility === "private" || hidden ? "private" : "public";
  addCommit(call.state, key, { files: { ".gitattributes": "*.safetensors filter=lfs\n" }, access });
  return json({ url, id, name: id });
}

function branch(call: Call): Response {
  if (!isKnown(call)) return json({ error: "Invalid username or password." }, { status: 401 });
  const [kind, name, branch] = call.groups as [string, string, string];
  const { refs } = call.state.repositories.get(`${kind}/${name}`)!;
  refs.set(branch, refs.get("main")!);
  return json({}, { status: 201 });
}

async function preupload(call: Call): Promise<Response> {
  if (!isKnown(call)) return json({ error: "Invalid username or password." }, { status: 401 });
  const [kind, name, revision] = call.groups as [string, string, string];
  const repository = found(call, kind, name);
  if (repository instanceof Response) return repository;
  if (commitOf(repository, revision) === null) {
    return refuse(404, "RevisionNotFound", `Invalid rev id: ${revision}`);
  }
  const { files }: { files: { path: string; size: number }[] } = await call.request.json();
  return json({
    files: files.map(({ path, size }) => ({
      path,
      uploadMode: isLarge(path, new Uint8Array(size)) ? "lfs" : "regular",
      shouldIgnore: false,
    })),
  });
}

async function batch(call: Call): Promise<Response> {
  if (!isKnown(call)) return json({ error: "Invalid username or password." }, { status: 401 });
  const { objects }: { objects: { oid: string; size: number }[] } = await call.request.json();
  return json({
    transfer: "basic",
    objects: objects.map(({ oid, size }) => ({
      oid,
      size,
      ...!call.state.store.has(oid) && { actions: { upload: { href: `${call.state.cdn}/lfs/${oid}` } } },
    })),
  });
}

async function put({ state, request, groups: [oid] }: Call): Promise<Response> {
  const bytes = new Uint8Array(await request.arrayBuffer());
  if (sha256(bytes) !== oid) return json({ error: "wrong content" }, { status: 400 });
  state.store.set(oid, bytes);
  return new Response(null, { status: 200 });
}

async function commit(call: Call): Promise<Response> {
  if (!isKnown(call)) return json({ error: "Invalid username or password." }, { status: 401 });
  const [kind, name, revision] = call.groups as [string, string, string];
  const key = `${kind}/${name}`, repository = call.state.repositories.get(key)!;
  const files = Object.fromEntries(repository.commits.get(commitOf(repository, revision)!)!);
  const lines = (await call.request.text()).split("\n").map((line) => JSON.parse(line));
  for (const { key: kind, value } of lines) {
    if (kind === "header" && value.parentCommit && value.parentCommit !== commitOf(repository, revision)) {
      return json({ error: "A commit has happened since." }, { status: 412 });
    }
    if (kind === "file") files[value.path] = Uint8Array.from(atob(value.content), (c) => c.charCodeAt(0));
    if (kind === "lfsFile") {
      if (!call.state.store.has(value.oid)) return json({ error: `no ${value.oid}` }, { status: 400 });
      files[value.path] = call.state.store.get(value.oid)!;
    }
    if (kind === "deletedFile") delete files[value.path];
  }
  const oid = addCommit(call.state, key, { files, revision });
  return json({ commitOid: oid, commitUrl: `${call.state.endpoint}/${name}/commit/${oid}`, hookOutput: "" });
}
