/**
 * What a person does with the page of `./firn browser`, by the keyboard.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type { Line } from "@firn/train/report";
import type { Settings } from "../../examples/browser/settings.ts";
import type { Page } from "./devtools.ts";

/** An expression of JavaScript: the element of an id. */
export function element(id: string): string {
  return `document.getElementById(${JSON.stringify(id)})`;
}

/** Presses Tab until an element has the focus. */
export async function tabTo(page: Page, id: string): Promise<void> {
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

/** Fills the form, and trains: the model in a folder, or that of the page. */
export async function begin(
  page: Page,
  { text, settings, folder }: {
    readonly text: string;
    readonly settings: Settings;
    readonly folder?: string;
  },
): Promise<void> {
  await page.until(`${element("start")}?.disabled === false`, "the form");
  await page.run(`document.querySelector("#form details").open = true`);
  // The form keeps what it had.
  if (folder !== undefined && !await page.run(`${element("other")}.checked`)) {
    await tabTo(page, "own");
    await page.press("ArrowDown");
    await tabTo(page, "folder");
    await page.choose("folder", folder);
  }
  await fill(page, "text", text);
  for (const key of ["steps", "batch", "length", "prompt", "rate", "rank", "seed", "tau"] as const) {
    await fill(page, key, String(settings[key]));
  }
  await tabTo(page, "start");
  await page.press("Enter");
}

/** Pauses after a step. The page itself presses the button, as steps are fast once all is compiled. */
export async function pauseAt(page: Page, step: number): Promise<void> {
  await page.run(`{
    const bar = ${element("progress")};
    const look = () => bar.value >= ${step} ? ${element("pause")}.click() : requestAnimationFrame(look);
    look();
  }`);
  await page.until(`/^Paused/.test(${element("status")}.textContent)`, "the pause");
  const paused = await page.run<number>(`${element("progress")}.value`);
  assert(
    paused >= step && await page.run(`${element("progress")}.max > ${paused}`),
    `paused after step ${paused}`,
  );
}

/** Waits for the end of a run, which no error may be. */
export async function ended(page: Page): Promise<void> {
  await page.until(
    `/^(Done|The run failed)/.test(${element("status")}.textContent) || !${element("error")}.hidden`,
    "the end of the run",
  );
  assertEquals(await page.run(`${element("error")}.textContent`), "");
}

/** What a run leaves. */
export interface Results {
  readonly lines: readonly Line[];
  readonly losses: readonly number[];
  /** The model, or the adapter. */
  readonly zip: Uint8Array<ArrayBuffer>;
}

/** Takes what a run leaves, by the buttons of the page. */
export async function results(page: Page, name: string): Promise<Results> {
  const log = await page.download("log", "metrics.jsonl"), zip = await page.download("download", name);
  const lines: Line[] = new TextDecoder().decode(log).trim().split("\n").map((line) => JSON.parse(line));
  return { lines, losses: lossesOf(lines), zip };
}

/** The loss of each step. */
export function lossesOf(lines: readonly Line[]): number[] {
  return lines.flatMap((line) => line.kind === "step" ? [line.loss ?? NaN] : []);
}
