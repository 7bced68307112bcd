/**
 * The page of `./firn browser` in Chromium on SwiftShader, used by its keyboard. `tests/browser/sotu.ts` trains the page's own
 * model, which takes longer.
 *
 * `sh tests/browser/chromium.sh` brings Debian's Chromium; where there is none, nothing is tested here.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { openGpu } from "@firn/train";
import { memoryFileSystem } from "@firn/train/data";
import { companionFiles, loadAdapter, loadModel, newModel, saveModel } from "@firn/train/hub";
import { unzipSync } from "fflate";
import { DEFAULTS, type Settings } from "../../examples/browser/settings.ts";
import { inFolder } from "../data/files.ts";
import { llamaSource } from "../train/tiny.ts";
import { hasChromium, type Page, startChromium } from "./devtools.ts";
import { nativeRun } from "./native_run.ts";
import { begin, element, ended, lossesOf, pauseAt, results, tabTo } from "./page_actions.ts";
import { servePage } from "./serve_page.ts";

const TEXT = Array.from(
  { length: 60 },
  (_, i) =>
    `In the year ${1900 + i} the union had ${i * 7 % 11} great questions and answered ${i % 5} of them.`,
).join(" ");

/** Some components freeze in the second half. */
const SETTINGS: Settings = {
  ...DEFAULTS,
  method: "adapter",
  rank: 2,
  steps: 20,
  batch: 2,
  length: 8,
  rate: 0.01,
  tau: 0.05,
};

/** Losses of two drivers: each step rounds its own way, and the next one goes on from there. */
const ROUNDING = 1e-4;

/** Writes a model that compiles fast, with the tokenizer of sotu. */
async function writeTiny(folder: string): Promise<void> {
  await using gpu = await openGpu();
  const source = { ...llamaSource({ layers: 2, tied: true }), vocab_size: 2048, max_position_embeddings: 64 };
  const files = await companionFiles("examples/models/sotu");
  await saveModel(gpu, await newModel(gpu, { source, seed: 1 }), { folder, files });
}

Deno.test({
  name: "the page trains by keyboard as Deno does, and after a pause and a reload goes on bit for bit",
  ignore: !hasChromium(),
  async fn() {
    await inFolder(async (folder) => {
      const model = `${folder}/tiny`, given = { text: TEXT, settings: SETTINGS, folder: model };
      await writeTiny(model);
      await using server = await servePage();
      await using browser = await startChromium(`${folder}/profile`);
      const page = await browser.open(server.url);
      await begin(page, given);
      await pauseAt(page, 8);
      await tabTo(page, "pause");
      await page.press("Enter");
      await ended(page);
      const first = await results(page, "tiny-adapter.zip");
      assertEquals(first.losses.length, SETTINGS.steps);

      await tabTo(page, "forget");
      await page.press("Enter");
      await begin(page, given);
      await pauseAt(page, 6);
      await page.send("Page.reload");
      await page.until(`document.activeElement?.id === "continue"`, "the kept run");
      await page.press("Enter");
      await ended(page);
      const second = await results(page, "tiny-adapter.zip");
      assertEquals(second.losses, first.losses);
      assertEquals(second.zip, first.zip);
      assertEquals(page.complaints, []);

      // What froze is drawn, with its reasons.
      const frozen = first.lines.flatMap((line) => line.kind === "freeze" ? line.frozen : []);
      assert(frozen.length > 0 && frozen.length < 14, `${frozen.length} froze`);
      assertEquals(await page.run(`document.querySelectorAll(".reasons tbody tr").length`), frozen.length);
      const hatched = `document.querySelectorAll('.plot rect[fill="url(#frozen)"]').length`;
      assertEquals(await page.run(hatched), frozen.length);

      await using gpu = await openGpu();
      const files = await Array.fromAsync(Deno.readDir(model), async ({ name }) => ({
        name,
        content: new Blob([await Deno.readFile(`${model}/${name}`)]),
      }));
      const record = { model: "tiny", own: false, text: "pasted text", settings: SETTINGS };
      const native = lossesOf(await nativeRun(gpu, { record, text: TEXT, model: files, base: server.url }));
      first.losses.forEach((loss, i) => {
        assert(
          Math.abs(loss - native[i]) < ROUNDING * native[i],
          `step ${i + 1}: ${loss}, in Deno ${native[i]}`,
        );
      });
      const fileSystem = memoryFileSystem(unzipSync(second.zip) as Record<string, Uint8Array<ArrayBuffer>>);
      const adapted = await loadAdapter(gpu, await loadModel(gpu, model), "tiny-adapter", { fileSystem });
      assertEquals(adapted.adapter?.source.r, SETTINGS.rank);
    });
  },
});

Deno.test({
  name:
    "the page says what to do where a browser finds no GPU, where another tab has the run, and where a text is too short",
  ignore: !hasChromium(),
  async fn() {
    await inFolder(async (folder) => {
      await using server = await servePage();
      const shown = async (page: Page): Promise<string> => {
        await page.until(`${element("missing")}?.hidden === false`, "what is missing");
        assertEquals(await page.run(`${element("start")}.disabled`), true);
        return await page.run(`${element("missing")}.innerText`);
      };
      {
        await using browser = await startChromium(`${folder}/without`, { webgpu: false });
        assertMatch(
          await shown(await browser.open(server.url)),
          /^Chrome finds no GPU for WebGPU\n[^]*enable-unsafe-webgpu/,
        );
      }
      await using browser = await startChromium(`${folder}/with`);
      const first = await browser.open(server.url);
      await first.until(`${element("start")}?.disabled === false`, "the form");
      assertMatch(await shown(await browser.open(server.url)), /^This page is open in another tab\n/);
      await first.send("Page.bringToFront");

      // A text that is too short is refused in words, and leaves nothing behind.
      await begin(first, { text: "Peace", settings: SETTINGS });
      await first.until(`!${element("error")}.hidden`, "the refusal");
      assertMatch(await first.run(`${element("error")}.innerText`), /^Cannot .*: got|^Cannot .* as /);
      await first.until(`!${element("forget")}.disabled`, "the end of the run");
      await tabTo(first, "forget");
      await first.press("Enter");
      await first.until(`!${element("form")}.hidden && !${element("start")}.disabled`, "the form");
      assertEquals(first.complaints, []);
    });
  },
});
