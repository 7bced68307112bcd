/**
 * The plot that shows when each component was frozen, and its readings until then.
 *
 * @module
 */

import { type FreezeSpans, freezeSpans } from "./freeze_spans.ts";
import { draw, type Plot, STEP_AXIS, WIDTH, X } from "./plots.ts";
import type { RunReport } from "./types.ts";

/** A {@link Plot} of readings. Its colours cover `edge` decades on both sides of the threshold. */
export type HeatPlot = Plot & Pick<FreezeSpans, "edge" | "shown">;

/**
 * Draws components from top to bottom and steps from left to right. Readings are colours; frozen steps are hatched.
 *
 * @param run The run, of at least one step
 * @returns The plot; null when no component was measured or frozen
 */
export async function freezePlot(run: RunReport): Promise<HeatPlot | null> {
  const found = freezeSpans(run);
  if (found === null) return null;
  const { shown, spans, domain, rowHeight, labels, edge, caption } = found;
  const axis = {
    title: null,
    minExtent: 198,
    maxExtent: 198,
    labelLimit: 0,
    labelOverlap: false,
    values: Object.keys(labels),
    labelExpr: `${JSON.stringify(labels)}[datum.value]`,
  };
  const svg = await draw({
    data: { values: spans },
    width: WIDTH - 130,
    height: rowHeight * shown.length,
    mark: "rect",
    encoding: {
      x: { ...X, scale: { ...X.scale, domain }, axis: STEP_AXIS },
      x2: { field: "x2" },
      y: {
        field: "path",
        type: "nominal",
        scale: { domain: shown.map(({ path }) => path), paddingInner: rowHeight > 6 ? 0.12 : 0 },
        axis,
      },
      fill: { field: "fill", type: "nominal", scale: null },
    },
  });
  return { svg, caption, edge, shown };
}
