/**
 * Quality over wall-clock time, all tasks and arms, as an SVG.
 *
 * @module
 */

import type { TopLevelSpec } from "vega-lite";
import { compile } from "vega-lite";
import { parse, View } from "vega";
import { meanOf } from "./study_statistics.ts";
import { undisturbedCurve } from "./study_times.ts";
import type { Summary } from "./study_summary.ts";

/** A point of a mean curve. */
interface Drawn {
  readonly task: string;
  readonly arm: string;
  readonly seconds: number;
  readonly quality: number;
  /** Whether training ends there. */
  readonly end: boolean;
}

/** Means over runs, point by point, up to the number of points that all have. */
function curveOf({ task, arm, lines }: Summary): Drawn[] {
  const count = Math.min(...lines.map(({ curve }) => curve.length)), undisturbed = undisturbedCurve(lines);
  return Array.from({ length: count }, (_, i) => {
    // The last point of each run is its end, however many came before.
    const at = i === count - 1 ? -1 : i, points = lines.map(({ curve }) => curve.at(at)!);
    return {
      task: task.name,
      arm,
      seconds: Number(meanOf(lines.map((line) => undisturbed(line).at(at)!)).toPrecision(4)),
      quality: Number(meanOf(points.map((point) => point[3])).toPrecision(5)),
      end: i === count - 1,
    };
  });
}

/**
 * Draws a panel for each task. The start, which is far below all else, is left out.
 *
 * @param summaries What to draw
 * @returns The SVG
 */
export async function drawStudy(summaries: readonly Summary[]): Promise<string> {
  const arms = [...new Set(summaries.map(({ arm }) => arm))];
  const values = summaries.flatMap((summary) => curveOf(summary).slice(1));
  const color = {
    field: "arm",
    type: "nominal",
    sort: arms,
    scale: { scheme: "tableau10" },
    legend: {
      orient: "bottom",
      columns: 5,
      symbolType: "stroke",
      symbolOpacity: 1,
      symbolStrokeWidth: 3,
      title: null,
    },
  };
  const y = { field: "quality", type: "quantitative", scale: { zero: false }, title: null };
  const x = { field: "seconds", type: "quantitative", title: "seconds of training, undisturbed" };
  const spec = {
    background: "white",
    padding: 8,
    title: { text: "Quality on the test part: accuracy, or minus the loss", anchor: "start" },
    config: { font: "system-ui, sans-serif", view: { stroke: "#ddd" }, axis: { gridColor: "#eee" } },
    data: { values },
    facet: { field: "task", type: "nominal", title: null, sort: null },
    columns: 2,
    resolve: { scale: { x: "independent", y: "independent" } },
    spec: {
      width: 380,
      height: 220,
      layer: [
        { mark: { type: "line", strokeWidth: 1.5 }, encoding: { x, y, color, order: { field: "seconds" } } },
        {
          transform: [{ filter: "datum.end" }],
          mark: { type: "point", filled: true, size: 45 },
          encoding: { x, y, color },
        },
      ],
    },
  } as unknown as TopLevelSpec;
  const view = new View(parse(compile(spec).spec), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  return svg;
}
