/**
 * The page of `./firn browser` in Chromium on SwiftShader, used by its keyboard.
 *
 * `sh tests/browser/chromium.sh` brings Debian's Chromium; where there is none, nothing is tested here.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { openGpu } from "@firn/train";
import { memoryFileSystem } from "@firn/train/data";
import { loadModel } from "@firn/train/hub";
import type { Line } from "@firn/train/report";
import { unzipSync } from "fflate";
import { beginRun } from "../../examples/browser/run.ts";
import { keepFile, RUN, textPath } from "../../examples/browser/run_files.ts";
import { DEFAULTS, type Settings } from "../../examples/browser/settings.ts";
import { inFolder } from "../data/files.ts";
import { CHROMIUM, type Page, startChromium } from "./devtools.ts";
import { servePage } from "./serve_page.ts";

const TEXT = Array.from(
  { length: 60 },
  (_, i) =>
    `In the year ${1900 + i} the union had ${i * 7 % 11} great questions and answered ${i % 5} of them.`,
).join(" ");

/** Small, as a CPU plays the GPU; some components freeze in the second half. */
const SETTINGS: Settings = { ...DEFAULTS, steps: 20, batch: 1, length: 16, rate: 5e-4, tau: 20 };

/** Losses of two drivers: each step rounds its own way, and the next one goes on from there. */
const ROUNDING = 1e-3;

/** A DOM expression of an element. */
const element = (id: string): string => `document.getElementById(${JSON.stringify(id)})`;

/** Presses Tab until an element has the focus. */
async function tabTo(page: Page, id: string): Promise<void> {
  for (let presses = 0; presses < 60; presses++) {
    await page.press("Tab");
    if (await page.run(`document.activeElement.id === ${JSON.stringify(id)}`)) return;
  }
  throw new Error(`Tab does not reach "${id}"`);
}

/** Reaches a field by Tab, and types over what it has. */
async function fill(page: Page, id: string, text: string): Promise<void> {
  await tabTo(page, id);
  await page.run(`document.activeElement.select()`);
  await page.send("Input.insertText", { text });
}

/** Fills the form, and trains. */
async function begin(page: Page): Promise<void> {
  await page.until(`${element("start")}?.disabled === false`, "the form");
  await page.run(`document.querySelector("details").open = true`);
  await fill(page, "text", TEXT);
  await fill(page, "steps", String(SETTINGS.steps));
  await fill(page, "batch", String(SETTINGS.batch));
  await fill(page, "length", String(SETTINGS.length));
  await fill(page, "rate", String(SETTINGS.rate));
  await fill(page, "tau", String(SETTINGS.tau));
  await tabTo(page, "start");
  await page.press("Enter");
}

/** Pauses after a step. The page itself presses the button, as the steps are fast once all is compiled. */
async function pauseAt(page: Page, step: number): Promise<void> {
  await page.run(`{
    const bar = ${element("progress")};
    const look = () => bar.value >= ${step} ? ${element("pause")}.click() : requestAnimationFrame(look);
    look();
  }`);
  await page.until(`/^Paused/.test(${element("status")}.textContent)`, "the pause");
  const paused = await page.run<number>(`${element("progress")}.value`);
  assert(paused >= step && paused < SETTINGS.steps, `it paused after step ${paused}`);
}

async function ended(page: Page): Promise<void> {
  await page.until(
    `/^(Done|The run failed)/.test(${element("status")}.textContent) || !${element("error")}.hidden`,
    "the end of the run",
  );
  assertEquals(await page.run(`${element("error")}.textContent`), "");
}

/** What a run leaves: the losses of its log, and the model. */
async function results(
  page: Page,
): Promise<{ readonly losses: (number | null)[]; readonly lines: Line[]; readonly zip: Uint8Array }> {
  const log = await page.download("log", "metrics.jsonl"),
    zip = await page.download("download", "sotu-trained.zip");
  const lines: Line[] = new TextDecoder().decode(log).trim().split("\n").map((line) => JSON.parse(line));
  return { lines, losses: lines.flatMap((line) => line.kind === "step" ? [line.loss] : []), zip };
}

/** The same run in Deno. */
async function nativeLosses(base: string): Promise<(number | null)[]> {
  await using gpu = await openGpu();
  const fileSystem = memoryFileSystem(),
    record = { model: "sotu", own: true, text: "pasted text", settings: SETTINGS };
  await fileSystem.makeFolder(RUN);
  await keepFile(new Blob([TEXT]), { path: textPath(record.text), fileSystem });
  const lines: Line[] = [], done = Promise.withResolvers<void>();
  await using run = beginRun(gpu, {
    record,
    resumed: false,
    fileSystem,
    base,
    tell(message) {
      if (message.kind === "lines") lines.push(...message.lines);
      if (message.kind === "phase" && message.phase === "done") done.resolve();
    },
  });
  await Promise.race([done.promise, run.ended]);
  return lines.flatMap((line) => line.kind === "step" ? [line.loss] : []);
}

Deno.test({
  name: "the page trains by keyboard as Deno does, and after a pause and a reload goes on bit for bit",
  ignore: !existsSync(CHROMIUM),
  async fn() {
    await inFolder(async (folder) => {
      await using server = await servePage();
      await using browser = await startChromium(folder);
      const page = await browser.open(server.url);
      await begin(page);
      await pauseAt(page, 8);
      await tabTo(page, "pause");
      await page.press("Enter");
      await ended(page);
      const first = await results(page);
      assertEquals(first.losses.length, SETTINGS.steps);
      const native = await nativeLosses(server.url);
      first.losses.forEach((loss, i) => {
        assert(
          Math.abs(loss! - native[i]!) < ROUNDING * native[i]!,
          `step ${i + 1}: ${loss}, in Deno ${native[i]}`,
        );
      });

      await tabTo(page, "forget");
      await page.press("Enter");
      await begin(page);
      await pauseAt(page, 6);
      await page.send("Page.reload");
      await page.until(`document.activeElement?.id === "continue"`, "the kept run");
      await page.press("Enter");
      await ended(page);
      const second = await results(page);
      assertEquals(second.losses, first.losses);
      assertEquals(second.zip, first.zip);
      assertEquals(page.complaints, []);

      // What froze is drawn, with its reasons.
      const frozen = first.lines.flatMap((line) => line.kind === "freeze" ? line.frozen : []);
      assert(frozen.length > 0 && frozen.length < 35, `${frozen.length} froze`);
      assertEquals(await page.run(`document.querySelectorAll(".reasons tbody tr").length`), frozen.length);
      assertEquals(
        await page.run(`document.querySelectorAll('rect[fill="url(#frozen)"]:not(.legend *)').length`),
        frozen.length,
      );

      const files = unzipSync(second.zip), fileSystem = memoryFileSystem(files);
      await using gpu = await openGpu();
      const model = await loadModel(gpu, "sotu-trained", { fileSystem });
      assertEquals(model.family.name, "llama");
    });
  },
});

function existsSync(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
