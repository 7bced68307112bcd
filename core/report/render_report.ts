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
 */
export async function renderReport(run: RunReport): Promise<string> {
  const sections = await runSections(run);
  return pageOf({ title: run.title, body: html`<main>${sections.map(({ content }) => content)}</main>` });
}
