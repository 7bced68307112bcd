/**
 * Files of a web server as a file system.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { Entry, FileSystem, OpenFile } from "./file_system.ts";
import { type Folders, foldersOf } from "./listed_files.ts";
import { readOnlyFileSystem } from "./read_only.ts";
import { probe, readRange, readWhole, type Served } from "./url_requests.ts";

/** Options of {@link urlFileSystem}. */
export interface UrlOptions {
  /** Paths of the files; when absent, a server is asked for what model folders and adapters have. */
  readonly files?: Iterable<string>;
  /** Sends requests, such as with a header of its own; `fetch` when absent. */
  readonly fetch?: typeof fetch;
}

/** Names of files in the folder of a model or an adapter. */
const USUAL: readonly string[] = [
  "adapter_config.json",
  "adapter_model.safetensors",
  "added_tokens.json",
  "chat_template.jinja",
  "chat_template.json",
  "config.json",
  "generation_config.json",
  "merges.txt",
  "model.safetensors",
  "model.safetensors.index.json",
  "preprocessor_config.json",
  "processor_config.json",
  "special_tokens_map.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "vocab.json",
];

/**
 * Makes a file system of what a web server has below an address. Parts of a file are fetched when they are read, by requests for
 * ranges; a server that does not know them sends the whole file, of 1 GiB at most. All loaders take it as `fileSystem`; nothing is
 * kept, so a copy of what is used often belongs into another file system.
 *
 * A file that changes on the server after it was first seen refuses to be read. A page can read files of another site only when that
 * site allows it (CORS).
 *
 * @param base Address of the folder; in a page it may be relative
 * @param options Names of the files, another `fetch`
 * @returns The file system, which is only read; its root is `"."`
 * @throws {InputError} When the address is not one of the web, or a name of a file leads out of it
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { loadTokenizer, urlFileSystem } from "@firn/train/data";
 *
 * const fetchFile = async (input: unknown) => {
 *   const { pathname } = new URL(String(input)); // stands for a server
 *   return await Deno.readFile(`examples/models/${pathname}`).then((bytes) => new Response(bytes), () => new Response(null, { status: 404 }));
 * };
 * const fileSystem = urlFileSystem("https://example.com/sotu", { fetch: fetchFile });
 * const tokenizer = await loadTokenizer(".", { fileSystem });
 * assertEquals(tokenizer.decode(tokenizer.encode("peace")), "peace");
 * ```
 */
export function urlFileSystem(base: string | URL, options: UrlOptions = {}): FileSystem {
  const root = rootOf(base), send = options.fetch ?? fetch;
  const addressOf = (path: string) => ({
    path: `${root}${path}`,
    url: root + path.split("/").map(encodeURIComponent).join("/"),
    send,
  });
  const listed = options.files === undefined ? undefined : foldersOf(options.files, `"${root}"`);
  const isListed = (path: string): boolean => {
    const at = path.lastIndexOf("/");
    return listed === undefined ||
      listed.get(path.slice(0, Math.max(0, at)))?.get(path.slice(at + 1))?.kind === "file";
  };
  // What was found stays, so that all reads are of one version of a file.
  const found = new Map<string, Served>();
  const find = async (path: string): Promise<Served | null> => {
    if (!isListed(path)) return null;
    const served = found.get(path) ?? await probe(addressOf(path));
    if (served !== null && !found.has(path)) found.set(path, served);
    return found.get(path) ?? null;
  };
  let usual: Promise<Folders> | undefined;
  return readOnlyFileSystem({
    prefix: root,
    async stat(path) {
      if (path === "" || listed?.has(path)) return { kind: "folder", size: 0 };
      const served = await find(path);
      return served === null ? null : { kind: "file", size: served.size };
    },
    async list(folder) {
      const folders = listed ?? (folder === "" ? await (usual ??= usualFiles(find, root)) : null);
      const entries = folders?.get(folder);
      return entries === undefined ? null : [...entries.values()] satisfies readonly Entry[];
    },
    async open(path): Promise<OpenFile | null> {
      const served = await find(path);
      return served === null ? null : await openServed(addressOf(path), served);
    },
    read: async (path, limit) =>
      isListed(path) ? await readWhole(addressOf(path), { limit, seen: found.get(path) }) : null,
  });
}

/** The address with a slash at its end. */
function rootOf(base: string | URL): string {
  const { location } = globalThis as { readonly location?: { readonly href: string } };
  const url = URL.parse(String(base), location?.href);
  if (
    url === null || !/^https?:$/.test(url.protocol) ||
    `${url.username}${url.password}${url.search}${url.hash}` !== ""
  ) {
    throw new InputError(
      `Cannot read files from "${base}" as it must be the address of a folder that begins with https:// or http:// and has ` +
        'no password, "?" or "#": it is not; check it',
    );
  }
  return url.href.replace(/\/*$/, "/");
}

async function usualFiles(find: (path: string) => Promise<Served | null>, root: string): Promise<Folders> {
  const there = await Promise.all(USUAL.map(async (name) => await find(name) === null ? [] : [name]));
  return foldersOf(there.flat(), `"${root}"`);
}

async function openServed(address: Parameters<typeof readWhole>[0], served: Served): Promise<OpenFile> {
  const whole = served.ranges || served.size === 0 ? null : await readWhole(address, { seen: served });
  return {
    size: served.size,
    async read(begin, end) {
      const from = Math.max(0, begin), to = Math.min(end, served.size);
      if (whole !== null) return whole.slice(from, Math.max(from, to));
      return from < to ? await readRange(address, { begin: from, end: to, seen: served }) : new Uint8Array();
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
