/**
 * What `./firn browser` answers, and what the page says where it cannot train.
 *
 * @module
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { adviceOn } from "../../examples/browser/lack.ts";
import { POLICY, readSite, siteHandler } from "../../examples/site.ts";
import { inFolder } from "../data/files.ts";

Deno.test("siteHandler answers with the files of its folder, and with nothing else of the machine", async () => {
  await inFolder(async (folder) => {
    await Deno.mkdir(`${folder}/site/sub`, { recursive: true });
    await Deno.writeTextFile(`${folder}/secret`, "secret");
    await Deno.writeTextFile(`${folder}/site/index.html`, "page");
    await Deno.writeTextFile(`${folder}/site/sub/a.js`, "script");
    await Deno.symlink(`${folder}/secret`, `${folder}/site/link`);
    const handler = siteHandler(await readSite(`${folder}/site`));
    const ask = async (path: string, init?: RequestInit) => {
      const response = handler(new Request(`http://127.0.0.1:8000${path}`, init));
      return [response.status, (await response.text()).trim()];
    };
    assertEquals(await ask("/"), [200, "page"]);
    assertEquals(await ask("/sub/a.js?x#y"), [200, "script"]);
    for (
      const path of [
        "/link",
        "/../secret",
        "/%2e%2e/secret",
        "/sub/..%2f..%2fsecret",
        "//secret",
        "/sub",
        "/sub/",
      ]
    ) {
      assertEquals(await ask(path), [404, "no such file"], path);
    }
    assertEquals((await ask("/", { method: "POST", body: "x" }))[0], 405);
    assertEquals(handler(new Request("http://evil.example:8000/")).status, 403);
    // What names a host that can be none, as Deno hands it on.
    assertEquals(handler({ method: "GET", url: "http://a b/" } as Request).status, 403);
    assertEquals(
      handler(new Request("http://localhost:8000/")).headers.get("content-security-policy"),
      POLICY,
    );
  });
});

Deno.test("the page may reach nothing but its own files: its policy names no other place", async () => {
  assertEquals(POLICY.match(/https?:|\*|unsafe/g), null);
  assertStringIncludes(POLICY, "default-src 'none'");
  assertStringIncludes(POLICY, "connect-src 'self'");
  const page = await Deno.readTextFile(new URL("../../examples/browser/index.html", import.meta.url));
  // Beside another server, which may send no headers, the page has the same one; "frame-ancestors" is for headers only.
  assertStringIncludes(page, `content="${POLICY.replace("; frame-ancestors 'none'", "")}"`);
  assertEquals(page.match(/https?:|\/\//g), null);
});

Deno.test("adviceOn names the switch of each browser", () => {
  const agents = {
    Chrome:
      "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    Edge:
      "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
    Firefox: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    Safari:
      "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.4 Safari/605.1.15",
  };
  const found = Object.entries(agents).map(([name, agent]) => [name, adviceOn("webgpu", agent)] as const);
  for (const [name, { title }] of found) assertStringIncludes(title, name);
  const switches = {
    Chrome: "chrome://flags",
    Edge: "edge://flags",
    Firefox: "dom.webgpu.enabled",
    Safari: "Feature Flags",
  };
  for (const [name, { steps }] of found) {
    assert(steps.some((step) => step.includes(switches[name as keyof typeof switches])), name);
  }
  assertStringIncludes(adviceOn("secure", agents.Chrome).steps[0], "127.0.0.1");
  assertStringIncludes(adviceOn("adapter", "Lynx").title, "finds no GPU");
});
