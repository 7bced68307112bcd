/**
 * `--watch` and `./firn watch`: pages that are served on this machine.
 *
 * @module
 */

import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { InputError } from "@firn/train";
import { logOf } from "../../examples/run_places.ts";
import { serveWatch } from "../../examples/watch.ts";
import { watchedRun } from "../../examples/watched.ts";
import { inFolder } from "../data/files.ts";
import { startLine, stepLines, textOf } from "../report/run_lines.ts";
import { example } from "./process.ts";

Deno.test("the page of a run comes from a thread of its own, and is back at its port when the run goes on", async () => {
  await inFolder(async (folder) => {
    const log = `${folder}/metrics.jsonl`;
    let port = 0;
    for (const steps of [3, 5]) {
      await using page = await watchedRun(log, { port });
      assertEquals((await fetch(`${page.url}run`, { headers: { origin: "https://a.example" } })).status, 403);
      await Deno.writeTextFile(log, textOf([startLine(), ...stepLines(1, steps)]));
      assertStringIncludes(await (await fetch(page.url)).text(), `${steps} of 40`);
      port = Number(new URL(page.url).port);
      await assertRejects(() => watchedRun(log, { port }), InputError, `port ${port} must be free`);
      // What asks a last time sees the end: the page waits for it.
      setTimeout(() => void fetch(page.url).then((answer) => answer.body?.cancel()), 150);
    }
  });
});

Deno.test("serveWatch listens on this machine only, at the port that it is given", async () => {
  const { url, server } = serveWatch("nowhere/metrics.jsonl", { port: 0 });
  assertEquals([server.addr.hostname, url], ["127.0.0.1", `http://127.0.0.1:${server.addr.port}/`]);
  assertStringIncludes(await (await fetch(url)).text(), "The run has not begun");
  await server.shutdown();
});

Deno.test("a page that is asked for before its run has a folder shows the run once there is one", async () => {
  await inFolder(async (folder) => {
    const out = `${folder}/later`, { url, server } = serveWatch(await logOf(out), { port: 0 });
    try {
      assertStringIncludes(await (await fetch(url)).text(), "The run has not begun");
      await Deno.mkdir(out);
      await Deno.writeTextFile(`${out}/metrics.jsonl`, textOf([startLine(), ...stepLines(1, 3)]));
      assertStringIncludes(await (await fetch(url)).text(), "3 of 40");
    } finally {
      await server.shutdown();
    }
    assertEquals(await logOf(`${folder}/other.jsonl`), `${folder}/other.jsonl`);
  });
});

const REFUSED: readonly (readonly [args: readonly string[], code: number, message: string])[] = [
  [[], 2, "name the output folder of a run\nSee --help"],
  [["out", "--port", "65536"], 2, '--port must be a port, 0 to 65535: got "65536"\nSee --help'],
  [
    ["out"],
    1,
    "Cannot serve the page of the run as Deno must be allowed to: it may not open a port of 127.0.0.1; " +
    "add --allow-net=127.0.0.1, or start by ./firn",
  ],
];

for (const [args, code, message] of REFUSED) {
  Deno.test(`watch ${args.join(" ")} is refused with the way out`, async () => {
    await inFolder(async (folder) => {
      assertEquals(await example("watch", args, folder), { code, stdout: "", stderr: `watch: ${message}\n` });
    });
  });
}
