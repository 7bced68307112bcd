/**
 * The page that follows a run: what it shows, how it goes on, and whom it answers.
 *
 * @module
 */

import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { DataError } from "@firn/train";
import { memoryFileSystem } from "@firn/train/data";
import { followLog, type Line, openLog, watchHandler } from "@firn/train/report";
import { freezeLine, PARTS, startLine, stepLine, stepLines, textOf } from "./run_lines.ts";

const HOST = "127.0.0.1:8000";
const EVIL = "<script>alert(1)</script>";

type Handler = (request: Request) => Promise<Response>;

function ask(
  handler: Handler,
  path = "",
  headers: Record<string, string> = {},
  method = "GET",
): Promise<Response> {
  return handler(new Request(`http://${HOST}/${path}`, { method, headers: { host: HOST, ...headers } }));
}

/** What `/run` answers. */
interface Seen {
  readonly seen: string;
  readonly title: string;
  readonly ended: boolean;
  readonly sections: readonly (readonly [id: string, html: string])[];
}

async function seenBy(handler: Handler, seen = ""): Promise<Seen & Record<"head" | "samples", string>> {
  const view: Seen = await (await ask(handler, `run?seen=${seen}`)).json();
  const { head, samples } = Object.fromEntries(view.sections);
  return { ...view, head, samples };
}

Deno.test("followLog reads only what was added, waits for whole lines, and reads anew what a run that goes on wrote", async () => {
  const files = memoryFileSystem(), read: [number, number][] = [];
  const fileSystem: typeof files = {
    ...files,
    open: async (path) => {
      const file = await files.open(path);
      return {
        ...file,
        size: file.size,
        read: (from, to) => {
          read.push([from, to]);
          return file.read(from, to);
        },
      };
    },
  };
  const log = followLog("log", { fileSystem });
  assertEquals(await log.read(), []);
  const begin = textOf([startLine(), stepLine(1)]);
  await files.write("log", begin + '{"kind":');
  assertEquals(await log.read(), [startLine(), stepLine(1)]);
  assertEquals(await log.read(), await log.read());
  await files.write("log", begin + textOf([stepLine(2)]));
  read.length = 0;
  const three = await log.read();
  assertEquals(three, [startLine(), stepLine(1), stepLine(2)]);
  assert(read.every(([from]) => from > 50), "the file was read from its start");
  assert(await log.read() === three, "nothing changed, and the list is another");
  // Longer than before, and another run.
  const other = [startLine({ config: { model: "other" } }), ...stepLines(1, 9)];
  await files.write("log", textOf(other));
  assertEquals(await log.read(), other);
  await files.write("log", textOf(other.slice(0, 3)));
  assertEquals(await log.read(), other.slice(0, 3));
  await files.append("log", "no line\n");
  await assertRejects(() => log.read(), DataError, "line 4 must be");
});

Deno.test("watchHandler shows figures, plots, samples and reasons of a run, and what is new, but nothing twice", async () => {
  const fileSystem = memoryFileSystem(), handler = watchHandler("log", { fileSystem });
  assertStringIncludes(await (await ask(handler)).text(), "The run has not begun");
  const log = await openLog("log", { fileSystem });
  await log.add([startLine({ sample: "the whale", threshold: { signal: "gradNorm", tau: 1 } }), PARTS]);
  await log.add(stepLines(1, 8, { tokensPerSecond: 1234, memoryBytes: 2 ** 31, metrics: { kl: 1 } }));
  const first = await seenBy(handler);
  assertEquals([first.title, first.ended], ["step 8 · llama", false]);
  for (const text of ["8 of 40", "0.125", "1,234", "2.00 GiB", "20 ms", "0:01", "0 % of the elements"]) {
    assertStringIncludes(first.head, `<dd>${text}</dd>`);
  }
  assertEquals((await ask(handler, `run?seen=${first.seen}`)).status, 204);
  await log.add([freezeLine(8), { kind: "sample", step: 8, text: `a ${EVIL}` }]);
  await log.add([{ kind: "evaluation", step: 8, set: "easy", metrics: { accuracy: 0.75 } }]);
  const { sections, seen, head, samples } = await seenBy(handler, first.seen),
    places = Object.fromEntries(sections);
  assertStringIncludes(head, "75 % of the elements");
  assertMatch(samples, /Step 8[\s\S]*a &lt;script&gt;[\s\S]*Before training[\s\S]*the whale/);
  assertStringIncludes(places.reasons, "below(gradNorm, 1)");
  assertStringIncludes(places.metrics, "From the top: kl, of each step.");
  assertMatch(places.evaluations, /easy[\s\S]*0\.75/);
  assertMatch(places.freezing, /url\(#frozen\)/);
  const page = await (await ask(handler)).text();
  assertStringIncludes(page, `data-seen="${seen}"`);
  assertEquals(page.match(/<script[^>]*>/g), [`<script src="watch.js" defer>`]);
  await log.add([{ kind: "end", ending: { reason: "stopped", step: 8, best: null } }]);
  assertEquals((await seenBy(handler)).ended, true);
});

Deno.test("watchHandler goes on with a run that goes on, also when its server is another", async () => {
  const fileSystem = memoryFileSystem(), handlers = [0, 1].map(() => watchHandler("log", { fileSystem }));
  const log = await openLog("log", { fileSystem });
  await log.add([startLine(), ...stepLines(1, 8)]);
  const { seen } = await seenBy(handlers[0]);
  const resumed = await openLog("log", { upTo: 4, fileSystem });
  assertStringIncludes((await seenBy(handlers[0], seen)).head, "4 of 40");
  await resumed.add(stepLines(5, 6));
  // The page has the name of a version of the server that is gone.
  const view = await seenBy(handlers[1], seen);
  assertStringIncludes(view.head, "6 of 40");
  assertEquals((await ask(handlers[1], `run?seen=${view.seen}`)).status, 204);
});

Deno.test("watchHandler gives a page of elsewhere nothing, whatever name it has for this machine", async () => {
  const fileSystem = memoryFileSystem({ log: textOf([startLine({ config: { model: "secret" } })]) });
  const handler = watchHandler("log", { fileSystem });
  const foreign: Record<string, string>[] = [
    { origin: "https://example.com" },
    { origin: "null" },
    { origin: "http://127.0.0.1:9999" },
    { host: "rebound.example.com" },
    { host: "rebound.example.com:8000" },
    { host: "127.0.0.1.example.com" },
    { host: "localhost:80@example.com" },
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-site" },
    { host: "" },
  ];
  for (const headers of foreign) {
    for (const path of ["", "run", "watch.js"]) {
      const answer = await ask(handler, path, headers), text = await answer.text();
      assertEquals([answer.status, text.includes("secret")], [403, false], JSON.stringify(headers));
      assertEquals(answer.headers.get("access-control-allow-origin"), null);
    }
  }
  const own: Record<string, string>[] = [
    { origin: `http://${HOST}`, "sec-fetch-site": "same-origin" },
    { "sec-fetch-site": "none" },
    { host: "localhost:8000" },
    { host: "[::1]:8000" },
  ];
  for (const headers of own) {
    assertEquals((await ask(handler, "", headers)).status, 200, JSON.stringify(headers));
  }
  assertEquals((await ask(handler, "", {}, "POST")).status, 405);
  assertEquals((await ask(handler, "../log")).status, 404);
});

Deno.test("watchHandler allows a page its own script and nothing of elsewhere, and escapes all of a log", async () => {
  const evil: Line[] = [
    startLine({ config: { model: EVIL, data: EVIL, [EVIL]: EVIL }, adapter: EVIL, sample: EVIL }),
    {
      kind: "components",
      components: [{ path: EVIL, layer: 0, parameters: [], kind: EVIL as "other", size: 1 }],
    },
    stepLine(1, { readings: { [EVIL]: { [EVIL]: 1 } } }),
    {
      ...freezeLine(1),
      frozen: [EVIL],
      reasons: { [EVIL]: { signal: EVIL, value: 1, threshold: 2, rule: EVIL } },
    },
    { kind: "evaluation", step: 1, set: EVIL, metrics: { [EVIL]: 1 } },
    { kind: "sample", step: 1, text: EVIL },
  ];
  const handler = watchHandler("log", { fileSystem: memoryFileSystem({ log: textOf(evil) }) });
  const answer = await ask(handler), page = await answer.text();
  assertEquals(page.match(/<script[^>]*>/gi), [`<script src="watch.js" defer>`]);
  assertStringIncludes(page, "&lt;script&gt;");
  const policy = answer.headers.get("content-security-policy")!;
  for (
    const rule of ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"]
  ) {
    assertStringIncludes(policy, rule);
  }
  assertEquals(answer.headers.get("x-content-type-options"), "nosniff");
  const { sections } = await seenBy(handler);
  assertEquals(sections.filter(([, text]) => /<script/i.test(text)), []);
});

Deno.test("watchHandler says what is wrong with a file that is no log, and shows the log once it is one", async () => {
  const fileSystem = memoryFileSystem({ log: "{}\n" }), handler = watchHandler("log", { fileSystem });
  assertStringIncludes((await seenBy(handler)).head, "Cannot read the log");
  await fileSystem.write("log", textOf([startLine()]));
  assertStringIncludes((await seenBy(handler)).head, "llama");
});
