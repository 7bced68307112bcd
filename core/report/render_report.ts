/**
 * A self-contained page about a run: what it learned, what it froze, and what that saved.
 *
 * Plots are SVG. Rendering needs no permission; the page needs no network and no script.
 *
 * @module
 */

import { html } from "./html.ts";
import { pageOf } from "./page.ts";
import { runSections } from "./sections.ts";
import type { RunReport } from "./types.ts";

/**
 * Renders a report as one HTML file.
 *
 * Long runs are thinned, keeping extremes, so that the page stays below 2 MB.
 *
 * @param run What happened
 * @returns The page, HTML
 *
 * @example
 * ```ts
 * import { assertStringIncludes } from "@std/assert";
 * import { type Line, renderReport, reportOf } from "@firn/train/report";
 *
 * const cost = { stepMs: 20, launches: 5, flops: 1e6, frozen: 0, readings: {} };
 * const log: Line[] = [ // readLog("out/finetune-1/metrics.jsonl") reads that of a run
 *   { kind: "start", config: { model: "llama", data: "letters" }, adapter: "a GPU" },
 *   { kind: "step", step: 1, loss: 2, learningRate: 0.1, ...cost },
 *   { kind: "step", step: 2, loss: 1, learningRate: 0.1, ...cost },
 * ];
 * const page = await renderReport(reportOf(log));
 * assertStringIncludes(page, "<h1>llama on letters</h1>");
 * ```
 */
export async function renderReport(run: RunReport): Promise<string> {
  const sections = await runSections(run);
  return pageOf({ title: run.title, body: html`<main>${sections.map(({ content }) => content)}</main>` });
}
