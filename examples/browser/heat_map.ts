/**
 * What a run froze, when and why, drawn.
 *
 * @module
 */

import { freezeLegend, freezeSpans, reasonsHtml, type RunReport } from "@firn/train/report";
import { figure, stepTicks, svg, WIDTH } from "./svg.ts";

const [LEFT, RIGHT, TOP, BOTTOM] = [190, 12, 6, 30];

/**
 * Draws components from top to bottom and steps from left to right, and lists why each froze.
 *
 * @param run The run so far, of at least one step
 * @returns Sections of the page; none before a component was measured
 */
export function heatMap(run: RunReport): HTMLElement[] {
  const found = freezeSpans(run);
  if (found === null) return [];
  const { shown, spans, domain, rowHeight, labels, caption } = found;
  const rows = new Map(shown.map(({ path }, row) => [path, TOP + row * rowHeight]));
  const x = (step: number) => LEFT + (step - domain[0]) / (domain[1] - domain[0]) * (WIDTH - LEFT - RIGHT);
  const base = TOP + rowHeight * shown.length, gap = rowHeight > 6 ? 1.5 : 0;
  const plot = figure({
    legend: fromHtml(freezeLegend(found)),
    title: "Freezing",
    height: base + BOTTOM,
    drawing: [
      ...spans.map((span) =>
        svg("rect", {
          x: x(span.x).toFixed(1),
          width: (x(span.x2) - x(span.x)).toFixed(1),
          y: rows.get(span.path)!,
          height: rowHeight - gap,
          fill: span.fill,
        })
      ),
      ...Object.entries(labels).map(([path, label]) =>
        svg("text", { x: LEFT - 8, y: rows.get(path)! + rowHeight / 2 + 3, "text-anchor": "end" }, label)
      ),
      ...stepTicks(domain).map((step) =>
        svg("text", { x: x(step), y: base + 18, "text-anchor": "middle" }, String(step))
      ),
      svg("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: base, y2: base }),
    ],
    caption,
  });
  return [plot, fromHtml(reasonsHtml(run))];
}

/** HTML of the library, in which all that comes from a run is escaped. */
function fromHtml(text: string): HTMLElement {
  const made = document.createElement("div");
  made.innerHTML = text;
  return made;
}
