/**
 * The pages about runs in Chromium: the one that follows a run, the report and the comparison, by keyboard, light and dark.
 *
 * `sh tests/browser/chromium.sh` brings Debian's Chromium; where there is none, nothing is tested here.
 *
 * @module
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { hostFileSystem } from "@firn/train/data";
import { type Line, openLog, renderComparison, renderReport, reportOf } from "@firn/train/report";
import { serveWatch } from "../../examples/watch.ts";
import { inFolder } from "../data/files.ts";
import { freezeLine, PARTS, startLine, stepLines } from "../report/run_lines.ts";
import { CHROMIUM, type Page, startChromium } from "./devtools.ts";

const ignore = await hostFileSystem().stat(CHROMIUM) === null;

const START = startLine({ sample: "the whale", threshold: { signal: "gradNorm", tau: 1 } });
const PACE = { tokensPerSecond: 1234, memoryBytes: 2 ** 31 };
const LINES: readonly Line[] = [START, PARTS, ...stepLines(1, 12, PACE), freezeLine(12)];

/** Presses Tab until what has the focus fits a selector. */
async function tabTo(page: Page, selector: string): Promise<void> {
  for (let presses = 0; presses < 40; presses++) {
    await page.press("Tab");
    if (await page.run(`document.activeElement.matches(${JSON.stringify(selector)})`)) return;
  }
  throw new Error(`Tab does not reach ${selector}`);
}

/** Follows a link. What the page is asked while it goes away gets no answer. */
async function follow(
  page: Page,
  { link, to }: { readonly link: string; readonly to: string },
): Promise<void> {
  const there = `location.href === ${JSON.stringify(to)} && document.readyState === "complete"`;
  await page.run(`void setTimeout(() => document.querySelector(${JSON.stringify(link)}).click(), 0)`);
  for (;;) {
    try {
      return await page.until(there, "what the link leads to");
    } catch (error) {
      if (!`${error}`.includes("navigated or closed")) throw error;
    }
  }
}

/** The least contrast of texts and what is behind them, as WCAG counts it. */
const CONTRAST = `(() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = (color) => parts(color).slice(0, 3).map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const { backgroundColor } = getComputedStyle(at);
      if (parts(backgroundColor)[3] !== 0) return backgroundColor;
    }
  };
  const texts = [...document.querySelectorAll("main *")].filter((one) =>
    one.getClientRects().length > 0 && [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== ""));
  const contrast = (one) => {
    const style = getComputedStyle(one), color = one instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [luminance(color), luminance(behind(one))].sort((a, b) => b - a);
    return (a + 0.05) / (b + 0.05);
  };
  return texts.length < 20 ? 0 : Math.min(...texts.map(contrast));
})()`;

/** Looks at a page in light and in dark: all texts can be read, and nothing was complained about. */
async function assertReadable(page: Page): Promise<void> {
  const papers: string[] = [];
  for (const value of ["light", "dark"]) {
    await page.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value }] });
    papers.push(await page.run("getComputedStyle(document.body).backgroundColor"));
    const contrast = await page.run<number>(CONTRAST);
    assert(contrast >= 4.5, `${value}: the least contrast is ${contrast.toFixed(2)}`);
  }
  assert(papers[0] !== papers[1], "light is as dark");
  assertEquals(page.complaints, []);
}

Deno.test({
  name:
    "the page of a run in Chromium follows it, keeps what is open and focused, pauses by keyboard, and outlives a restart",
  ignore,
  fn: () =>
    inFolder(async (folder) => {
      const path = `${folder}/metrics.jsonl`;
      await using browser = await startChromium(`${folder}/profile`);
      const log = await openLog(path);
      await log.add(LINES);
      const first = serveWatch(path, { port: 0 });
      const page = await browser.open(first.url);
      await page.until(`/^Live/.test(document.getElementById("status")?.textContent)`, "the first answer");
      assertEquals(await page.run("document.title"), "step 12 · llama");
      await assertReadable(page);

      await tabTo(page, "#pause");
      await page.press("Space");
      assertEquals(await page.run("document.activeElement.getAttribute('aria-pressed')"), "true");
      await page.press("Enter");
      assertEquals(await page.run("document.activeElement.getAttribute('aria-pressed')"), "false");
      await tabTo(page, "#freezing summary");
      await page.press("Enter");
      await log.add(stepLines(13, 14, PACE));
      await page.until(`/14 of 40/.test(document.getElementById("head").textContent)`, "the next steps");
      assertEquals(await page.run("document.activeElement.matches('#freezing summary')"), true);
      assertEquals(await page.run("document.querySelector('#freezing details').open"), true);
      assertEquals(page.complaints, []);

      await page.send("Page.reload");
      await page.until(
        `/^Live/.test(document.getElementById("status")?.textContent)`,
        "the page, loaded again",
      );
      assertStringIncludes(await page.run("document.getElementById('head').textContent"), "14 of 40");
      assertEquals(page.complaints, []);

      // The run is stopped, and goes on from step 13.
      await first.server.shutdown();
      await page.until(`/^No answer/.test(document.getElementById("status").textContent)`, "silence");
      const resumed = await openLog(path, { upTo: 13 }), { port } = new URL(first.url);
      const second = serveWatch(path, { port: Number(port) });
      await resumed.add([...stepLines(14, 20, PACE), { kind: "end" }]);
      await page.until(`/^The run has ended/.test(document.getElementById("status").textContent)`, "the end");
      assertStringIncludes(await page.run("document.getElementById('head').textContent"), "20 of 40");
      await second.server.shutdown();
    }),
});

/** What a page of another origin tries: to fetch, to frame, and to run as a script. */
const FOREIGN = (url: string) =>
  `<!doctype html><title>another origin</title><iframe src="${url}"></iframe><a href="${url}">link</a><script>
  const script = () => new Promise((resolve) => {
    const one = document.createElement("script");
    [one.onload, one.onerror] = [() => resolve("loaded"), () => resolve("refused")];
    one.src = "${url}watch.js";
    document.head.append(one);
  });
  const seen = (mode) => fetch("${url}run", { mode }).then((answer) => answer.text(), () => "refused");
  window.tried = Promise.all([seen("cors"), seen("no-cors"), script()]);
</script>`;

Deno.test({
  name:
    "a page of another origin in Chromium gets nothing of a run: not by fetch, as a script, in a frame, or by a link",
  ignore,
  fn: () =>
    inFolder(async (folder) => {
      await using browser = await startChromium(`${folder}/profile`);
      const log = await openLog(`${folder}/metrics.jsonl`);
      await log.add(LINES);
      const { url, server } = serveWatch(`${folder}/metrics.jsonl`, { port: 0 });
      const other = Deno.serve(
        { hostname: "127.0.0.1", port: 0, onListen: () => {} },
        () => new Response(FOREIGN(url), { headers: { "content-type": "text/html" } }),
      );
      for (const host of ["127.0.0.1", "localhost"]) {
        const page = await browser.open(`http://${host}:${other.addr.port}/`);
        await page.until("window.tried && document.readyState === 'complete'", "the page of another origin");
        assertEquals(await page.run("window.tried"), ["refused", "refused", "refused"]);
        assertEquals(await page.run("document.querySelector('iframe').contentDocument"), null);
        await follow(page, { link: "a", to: url });
        const text = await page.run<string>("document.body.innerText");
        assertEquals(text.trim(), "This page is read on its own machine, at its own address.");
      }
      await Promise.all([server.shutdown(), other.shutdown()]);
    }),
});

Deno.test({
  name: "report and comparison in Chromium are read in light and dark, and by keyboard, without a complaint",
  ignore,
  fn: () =>
    inFolder(async (folder) => {
      await using browser = await startChromium(`${folder}/profile`);
      const end: Line = { kind: "end", sample: "the ship" };
      const runs = ["a", "b"].map((name) => ({ name, lines: [...LINES, end] }));
      await Deno.writeTextFile(`${folder}/report.html`, await renderReport(reportOf(runs[0].lines)));
      await Deno.writeTextFile(`${folder}/comparison.html`, await renderComparison(runs));
      for (const name of ["report", "comparison"]) {
        const page = await browser.open(`file://${folder}/${name}.html`);
        await page.until("document.readyState === 'complete' && document.querySelector('h1')", name);
        await assertReadable(page);
        await tabTo(page, ".plot");
        await tabTo(page, ".scroll");
        await page.run("document.activeElement.blur()");
        await tabTo(page, "summary");
        await page.press("Enter");
        assertEquals(await page.run("document.activeElement.parentElement.open"), true);
        assertEquals(page.complaints, []);
      }
    }),
});
