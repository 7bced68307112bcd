/**
 * A page that follows a run: a request handler over its log, for a server on this machine.
 *
 * It only reads, and answers only pages of its own origin: a page of elsewhere gets nothing, whatever name it has for this
 * machine. All that comes from the log is escaped.
 *
 * @module
 */

import { FirnError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { escaped, html, raw } from "./html.ts";
import { liveSummary } from "./live_summary.ts";
import { pageOf } from "./page.ts";
import { followLog } from "./read_log.ts";
import { reportOf } from "./report_of.ts";
import { runSections, SECTION_IDS } from "./sections.ts";
import type { Line } from "./types.ts";
import { WATCH_SCRIPT } from "./watch_script.ts";

/** Names of this machine for itself: another name in the header leads here from elsewhere. */
const HOSTS = /^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/;

const POLICY =
  "default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; " +
  "form-action 'none'; base-uri 'none'";

const HEADERS = {
  "cache-control": "no-store",
  "content-security-policy": `${POLICY}; frame-ancestors 'none'`,
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

/** What the page shows of a log. */
interface View {
  /** Its name: another one for each change of the log, and for each server. */
  readonly seen: string;
  readonly title: string;
  readonly ended: boolean;
  /** HTML by place. */
  readonly sections: readonly (readonly [id: string, html: string])[];
}

/**
 * Makes the handler of a page that shows how a run goes on.
 *
 * @param path The log, `metrics.jsonl`; it may come later, and a run that goes on may write it anew
 * @param options The file system
 * @returns A handler of requests, as `Deno.serve` takes it; serve it on a loopback address
 *
 * @example
 * ```ts
 * import { assertEquals, assertStringIncludes } from "@std/assert";
 * import { memoryFileSystem } from "@firn/train/data";
 * import { openLog, watchHandler } from "@firn/train/report";
 *
 * const fileSystem = memoryFileSystem(); // hostFileSystem() reads the disk
 * const log = await openLog("metrics.jsonl", { fileSystem });
 * await log.add([{ kind: "start", config: { model: "llama" }, adapter: "a GPU" }]);
 * const handler = watchHandler("metrics.jsonl", { fileSystem }); // Deno.serve({ hostname: "127.0.0.1" }, handler)
 * const host = "127.0.0.1:8000", url = `http://${host}/`;
 * const page = await handler(new Request(url, { headers: { host } }));
 * assertStringIncludes(await page.text(), "<h1>llama</h1>");
 * const other = await handler(new Request(url, { headers: { host, origin: "https://example.com" } }));
 * assertEquals(other.status, 403);
 * ```
 */
export function watchHandler(
  path: string,
  options: FileSystemOptions = {},
): (request: Request) => Promise<Response> {
  const log = followLog(path, options), server = crypto.randomUUID();
  let version = 0, known: readonly Line[] | null = null, view: Promise<View> | null = null;
  // Requests wait for each other, so that a change is drawn once.
  let busy: Promise<unknown> = Promise.resolve();
  const now = (): Promise<View> => {
    const result = busy.then(async () => {
      const lines = await log.read();
      if (lines !== known || view === null) view = draw(lines, `${server}-${++version}`);
      known = lines;
      return await view;
    });
    busy = result.catch(() => {});
    return result;
  };
  return async (request) => {
    const refusal = refusalOf(request);
    if (refusal !== null) return refusal;
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/watch.js") return answer(WATCH_SCRIPT, "text/javascript");
    if (pathname !== "/" && pathname !== "/run") return answer("There is no such page.\n", "text/plain", 404);
    const current = await now().catch((error) => faulty(error, `${server}-fault`));
    if (pathname === "/") return answer(shell(current), "text/html");
    if (searchParams.get("seen") === current.seen) {
      return new Response(null, { status: 204, headers: HEADERS });
    }
    return answer(JSON.stringify(current), "application/json");
  };
}

/** Refuses what comes from elsewhere, and all but reading. */
function refusalOf({ method, headers }: Request): Response | null {
  const host = headers.get("host") ?? "",
    origin = headers.get("origin"),
    site = headers.get("sec-fetch-site");
  const own = HOSTS.test(host) && (origin === null || origin === `http://${host}`) &&
    (site === null || site === "same-origin" || site === "none");
  if (!own) return answer("This page is read on its own machine, at its own address.\n", "text/plain", 403);
  if (method === "GET" || method === "HEAD") return null;
  return answer("This page is only read.\n", "text/plain", 405);
}

function answer(body: string, type: string, status = 200): Response {
  return new Response(body, { status, headers: { ...HEADERS, "content-type": `${type}; charset=utf-8` } });
}

async function draw(lines: readonly Line[], seen: string): Promise<View> {
  if (lines.length === 0) return notice(seen, "The run has not begun.");
  const run = reportOf(lines), { title, rows } = run;
  const drawn = await runSections({ ...run, summary: liveSummary(lines) });
  const ended = lines.at(-1)!.kind === "end", last = rows.at(-1)?.step ?? 0;
  return {
    seen,
    title: `${ended ? "ended" : `step ${last}`} · ${title}`,
    ended,
    sections: drawn.map(({ id, content }) => [id, escaped(content)]),
  };
}

/** A log that is no log shows why; what is no fault of a file is one of the program. */
function faulty(error: unknown, seen: string): View {
  if (!(error instanceof FirnError)) throw error;
  return notice(seen, error.message);
}

function notice(seen: string, text: string): View {
  const sections = SECTION_IDS.map((id) =>
    [
      id,
      id === "head"
        ? html`
          <header>
            <h1>A run</h1>
            <p class="note">${text}</p>
          </header>
        `.text
        : "",
    ] as const
  );
  return { seen, title: "A run", ended: false, sections };
}

function shell({ seen, title, ended, sections }: View): string {
  const head = html`
    <link rel="icon" href="data:,">
    <script src="watch.js" defer></script>
  `;
  const body = html`
    <main data-seen="${seen}" data-ended="${String(ended)}">
      <p class="live"><span id="status" role="status">As it was when the page was loaded.</span>
        <button id="pause" type="button" aria-pressed="false" hidden>Pause</button></p>
      ${sections.map(([id, text]) => html`<div id="${id}">${raw(text)}</div>`)}
    </main>
  `;
  return pageOf({ title, body, head, policy: POLICY });
}
