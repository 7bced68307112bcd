/**
 * The plots of a report, each alone, as a notebook shows them.
 *
 * @module
 */

import { freezePlot } from "./freeze_plot.ts";
import type { Plot } from "./plots.ts";
import { costPlot, lossPlot } from "./step_plots.ts";
import { STYLE, SVG_DEFS } from "./style.ts";
import type { RunReport } from "./types.ts";

/**
 * Draws the plots of a report: the loss and the learning rate, when what froze, and what a step costs. Each SVG has its
 * colours in it, for light and dark.
 *
 * @param run What happened, of at least one step
 * @returns The plots: two, or three where something was measured or frozen
 *
 * @example
 * ```ts
 * import { assertEquals, assertStringIncludes } from "@std/assert";
 * import { reportOf, reportPlots } from "@firn/train/report";
 *
 * const start = { kind: "start", config: {}, adapter: "a GPU" } as const;
 * const rest = { learningRate: 0.1, readings: {}, stepMs: 5, frozen: 0, launches: 8, flops: 2e9 };
 * const steps = [3, 2].map((loss, i) => ({ kind: "step", step: i + 1, loss, ...rest }) as const);
 * const plots = await reportPlots(reportOf([start, ...steps]));
 * assertEquals(plots.length, 2);
 * assertStringIncludes(plots[0].svg, "prefers-color-scheme: dark");
 * assertStringIncludes(plots[0].svg, 'class="marks firn-plot"');
 * // In a notebook of Deno: await Deno.jupyter.display(Deno.jupyter.svg`${plots[0].svg}`);
 * ```
 */
export async function reportPlots(run: RunReport): Promise<readonly Plot[]> {
  const plots = [await lossPlot(run), await freezePlot(run), await costPlot(run)];
  return plots.filter((plot) => plot !== null).map(({ svg, caption }) => ({ svg: withColors(svg), caption }));
}

/** An SVG with the colours of the style sheet, which are custom properties of its own. */
function withColors(svg: string): string {
  const [light, dark] = [...STYLE.matchAll(/:root \{(?: color-scheme: [^;]*;)?([^}]*)\}/g)].map(([, text]) =>
    text.replaceAll(/\s+/g, " ").trim()
  );
  const style = `<style>.firn-plot { background: var(--card); ${light} } ` +
    `@media (prefers-color-scheme: dark) { .firn-plot { ${dark} } }</style>${SVG_DEFS}`;
  // Vega gives its drawings the class "marks".
  return svg.replace(/^<svg[^>]*>/, (tag) => tag.replace('class="marks"', 'class="marks firn-plot"') + style);
}
