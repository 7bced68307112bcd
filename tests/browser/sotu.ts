/**
 * Trains the page's own model for 20 steps in Chromium and in Deno, and compares losses and tokens a second.
 *
 * ```sh
 * ./firn deno run --allow-read --allow-write --allow-run --allow-net=127.0.0.1 tests/browser/sotu.ts
 * VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json ./firn deno run --allow-ffi \
 *   --allow-read --allow-write --allow-run --allow-net=127.0.0.1 tests/browser/sotu.ts dawn
 * ```
 *
 * With `dawn`, Deno runs on Google's WebGPU and the driver that `VK_DRIVER_FILES` names: the one of Chromium.
 *
 * @module
 */

import { openGpu } from "@firn/train";
import type { Line } from "@firn/train/report";
import { DEFAULTS, type Settings } from "../../examples/browser/settings.ts";
import { inFolder } from "../data/files.ts";
import { hasChromium, startChromium } from "./devtools.ts";
import { nativeRun } from "./native_run.ts";
import { begin, element, ended, lossesOf, type Results, results } from "./page_actions.ts";
import { servePage } from "./serve_page.ts";

const TEXT = Array.from(
  { length: 200 },
  (_, i) =>
    `In the year ${1800 + i} the union had ${i * 7 % 11} great questions and answered ${i % 5} of them.`,
).join(" ");

const SETTINGS: Settings = { ...DEFAULTS, steps: 20, batch: 2, length: 32, rate: 5e-4 };

/** Losses of two drivers: each step rounds its own way, and the next one goes on from there. */
const ROUNDING = 1e-3;

/** Tokens a second of the looks after the first, which compiles: in the middle, and of the fastest. */
function paceOf(lines: readonly Line[]): string {
  const paces = lines.flatMap((line) => line.kind === "step" ? [line.tokensPerSecond!] : []).slice(5)
    .sort((a, b) => a - b);
  return `${paces[Math.floor(paces.length / 2)]} tokens/s, ${paces.at(-1)} at best`;
}

async function inChromium(folder: string, url: string): Promise<Results & { readonly adapter: string }> {
  await using browser = await startChromium(folder);
  const page = await browser.open(url);
  await begin(page, { text: TEXT, settings: SETTINGS });
  await ended(page);
  if (page.complaints.length > 0) throw new Error(page.complaints.join("\n"));
  return {
    ...await results(page, "sotu-trained.zip"),
    adapter: await page.run(`${element("adapter")}.textContent`),
  };
}

async function main(): Promise<void> {
  if (!hasChromium()) return console.log("the page trains nothing here: there is no Chromium");
  await using server = await servePage();
  const record = { model: "sotu", own: true, text: "pasted text", settings: SETTINGS };
  await using gpu = await openGpu({ gpu: Deno.args[0] === "dawn" ? "dawn" : "deno" });
  const lines = await nativeRun(gpu, { record, text: TEXT, base: server.url }), native = lossesOf(lines);
  await inFolder(async (folder) => {
    const page = await inChromium(folder, server.url);
    const apart = Math.max(...page.losses.map((loss, i) => Math.abs(loss / native[i] - 1)));
    console.log(`Chromium  ${paceOf(page.lines)}, ${page.adapter}`);
    console.log(`Deno      ${paceOf(lines)}, ${gpu.name}`);
    console.log(`losses of ${page.losses.length} steps differ by ${apart.toExponential(1)} at most`);
    if (!(page.losses.length === native.length && apart < ROUNDING)) Deno.exit(1);
  });
}

await main();
