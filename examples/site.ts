/**
 * A folder of files as a site on this machine.
 *
 * @module
 */

/** Files by their path, such as `/index.html`. */
export type Site = ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

const TYPES: ReadonlyMap<string, string> = new Map([
  ["html", "text/html; charset=utf-8"],
  ["css", "text/css; charset=utf-8"],
  ["js", "text/javascript; charset=utf-8"],
  ["json", "application/json"],
  ["md", "text/markdown; charset=utf-8"],
]);

/** Scripts, styles and requests of the page itself, and nothing of any other place. */
export const POLICY =
  "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self' data:; " +
  "form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS = {
  "content-security-policy": POLICY,
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  // A page that was built again is fetched again.
  "cache-control": "no-cache",
};

/**
 * Reads a folder, and all folders in it.
 *
 * @param folder The folder
 * @returns Its files
 */
export async function readSite(folder: string): Promise<Site> {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  async function add(path: string): Promise<void> {
    for await (const { name, isDirectory, isFile } of Deno.readDir(folder + path)) {
      if (isDirectory) await add(`${path}/${name}`);
      if (isFile) files.set(`${path}/${name}`, await Deno.readFile(`${folder}${path}/${name}`));
    }
  }
  await add("");
  return files;
}

/**
 * Answers requests for files of a site. There are no others: a path is a name in the site, and never one of the machine. Nor is a
 * request answered that names another host, as a page of another site makes when its name is made to lead here.
 *
 * @param site The files
 * @returns What answers
 */
export function siteHandler(site: Site): (request: Request) => Response {
  const refuse = (status: number, why: string): Response =>
    new Response(`${why}\n`, { status, headers: HEADERS });
  return ({ method, url }) => {
    const { hostname, pathname } = URL.parse(url) ?? { hostname: "", pathname: "" };
    if (!/^(127\.0\.0\.1|localhost)$/.test(hostname)) return refuse(403, "this is a page of 127.0.0.1");
    if (method !== "GET" && method !== "HEAD") return refuse(405, "GET and HEAD only");
    const path = pathname.endsWith("/") ? `${pathname}index.html` : pathname, bytes = site.get(path);
    if (bytes === undefined) return refuse(404, "no such file");
    const type = TYPES.get(path.slice(path.lastIndexOf(".") + 1)) ?? "application/octet-stream";
    const headers = { ...HEADERS, "content-type": type, "content-length": String(bytes.length) };
    return new Response(method === "HEAD" ? null : bytes, { headers });
  };
}
