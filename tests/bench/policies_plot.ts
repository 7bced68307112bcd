/**
 * The comparison of policies as a picture: quality against seconds.
 *
 * @module
 */

import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import type { Run } from "./policies_run.ts";
import { rangeOf, summarise } from "./policies_table.ts";

const WIDTH = 720;

/**
 * Draws quality on the validation part along the runs, means over seeds, and below it quality on the test part at their
 * ends, with the least and the greatest of all seeds.
 *
 * @param runs The runs, at least one
 * @param title What was compared
 * @returns An SVG
 */
export async function drawPolicies(runs: readonly Run[], title: string): Promise<string> {
  const classes = runs.every(({ test }) => test.accuracy !== null);
  const labels = [...new Set(runs.map(({ label }) => label))];
  const lines = labels.flatMap((label) => {
    const own = runs.filter((run) => run.label === label);
    // Seeds may have ended at different times: a mean is drawn where all have a point.
    const points = Math.min(...own.map(({ curve }) => curve.length));
    return Array.from({ length: points }, (_, i) => ({
      run: label,
      seconds: rangeOf(own.map(({ curve }) => curve[i].seconds)).mean,
      quality: rangeOf(own.map(({ curve }) => classes ? curve[i].accuracy! : curve[i].loss)).mean,
    }));
  });
  const finals = summarise(runs).map(({ label, total, loss, accuracy }) => {
    const quality = classes ? accuracy! : loss;
    return {
      run: label,
      seconds: total.mean,
      from: total.min,
      to: total.max,
      quality: quality.mean,
      low: quality.min,
      high: quality.max,
    };
  });
  const y = (what: string) => ({
    field: "quality",
    type: "quantitative",
    scale: { zero: false },
    title: `${what} ${classes ? "accuracy" : "loss"}`,
  });
  const x = { field: "seconds", type: "quantitative", title: "seconds" };
  const color = { field: "run", type: "nominal", sort: labels, scale: { scheme: "tableau20" }, title: null };
  const spec = {
    background: "white",
    padding: 8,
    title: { text: title, anchor: "start" },
    config: { font: "system-ui, sans-serif", legend: { symbolLimit: 0, labelLimit: 260 } },
    vconcat: [
      {
        width: WIDTH,
        height: 300,
        data: { values: lines },
        mark: { type: "line", point: { size: 14 } },
        encoding: { x, y: y("validation"), color, order: { field: "seconds" } },
      },
      {
        width: WIDTH,
        height: 300,
        data: { values: finals },
        layer: [
          {
            mark: "rule",
            encoding: {
              x: { field: "from", type: "quantitative", title: "seconds" },
              x2: { field: "to" },
              y: y("test"),
              color,
            },
          },
          {
            mark: "rule",
            encoding: {
              x,
              y: { ...y("test"), field: "low" },
              y2: { field: "high" },
              color,
            },
          },
          { mark: { type: "point", filled: true, size: 50 }, encoding: { x, y: y("test"), color } },
          {
            mark: { type: "text", align: "left", dx: 7, dy: -5, fontSize: 10, fill: "#444" },
            encoding: { x, y: y("test"), text: { field: "run" } },
          },
        ],
      },
    ],
  } as unknown as TopLevelSpec;
  const view = new View(parse(compile(spec).spec), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  return svg;
}
