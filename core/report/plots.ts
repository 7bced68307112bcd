/**
 * Plots as Vega-Lite specifications, drawn to SVG without a browser.
 *
 * Colours are custom properties of the page, so that one drawing serves light and dark.
 *
 * @module
 */

import type { TopLevelSpec } from "vega-lite";
import { type Point, thin } from "./numbers.ts";
import type { MetricRow } from "./types.ts";

/** A drawing and what it shows in words. */
export interface Plot {
  /** The drawing. */
  readonly svg: string;
  /** What it shows. */
  readonly caption: string;
}

/** Width of a plot in pixels. */
export const WIDTH = 800;
const MAX_POINTS = 800;

/** The step axis of every plot. */
export const X = { field: "x", type: "quantitative", scale: { nice: false, zero: false } };
/** Its ticks. */
export const STEP_AXIS = { title: "step", tickMinStep: 1, format: "d" };
const THEME = {
  font: "system-ui, sans-serif",
  aria: false,
  view: { stroke: null },
  axis: {
    domainColor: "var(--rule)",
    gridColor: "var(--grid)",
    tickColor: "var(--rule)",
    labelColor: "var(--soft)",
    titleColor: "var(--soft)",
    titleFontWeight: "normal",
    labelFontSize: 11,
    titleFontSize: 12,
    titlePadding: 8,
  },
  axisX: { grid: false },
  axisY: { domain: false, ticks: false, labelPadding: 6 },
};

/** Draws a Vega-Lite specification to SVG. Vega is loaded when the first plot is drawn. */
export async function draw(spec: object): Promise<string> {
  const top = { background: "transparent", padding: 4, config: THEME, ...spec } as TopLevelSpec;
  const [{ parse, View }, { compile }] = await Promise.all([import("vega"), import("vega-lite")]);
  const view = new View(parse(compile(top).spec), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  return svg;
}

/** A line of a panel. */
export interface Line {
  readonly points: readonly Point[];
  readonly stroke: string;
  readonly width?: number;
  readonly stairs?: boolean;
  /** Lengths of dashes and gaps in pixels; a whole line when absent. */
  readonly dash?: readonly number[];
}

/** How a panel looks. */
export interface PanelOptions {
  readonly height: number;
  /** Title of the y axis. */
  readonly title: string;
  /** Whether y starts at 0. */
  readonly zero?: boolean;
  /** How y labels print, in the language of d3-format. */
  readonly format?: string;
  /** Whether another panel below has the step axis. */
  readonly upper?: boolean;
  /** Steps to mark by a vertical rule. */
  readonly rules?: readonly number[];
  /** Its x axis; that of steps when absent. */
  readonly axis?: object;
}

/** A panel of lines over steps, as a Vega-Lite specification. */
export function panel(lines: readonly Line[], options: PanelOptions): object {
  const { height, title, zero = false, format, upper = false, rules = [], axis: below = STEP_AXIS } = options;
  const x = { ...X, axis: upper ? { title: null, labels: false, ticks: false } : below };
  const axis = { title, minExtent: 48, maxExtent: 48, tickCount: height / 35, ...(format && { format }) };
  const y = { field: "y", type: "quantitative", scale: { zero }, axis };
  const layer = lines.map(({ points, stroke, width = 2, stairs = false, dash }) => ({
    data: { values: points },
    mark: {
      type: "line",
      stroke,
      strokeWidth: width,
      strokeJoin: "round",
      ...dash && { strokeDash: dash },
      interpolate: stairs ? "step" : "linear",
      point: points.length < 30 ? { fill: stroke, stroke: null, size: 24 } : false,
    },
    encoding: { x, y },
  }));
  const rule = {
    data: { values: rules.map((x) => ({ x })) },
    mark: { type: "rule", stroke: "var(--rule)", strokeOpacity: 0.7 },
    encoding: { x },
  };
  return { width: WIDTH, height, layer: [rule, ...layer] };
}

/** Panels below each other with one step axis. */
export function stacked(panels: readonly object[]): object {
  return { vconcat: panels, spacing: 16, resolve: { scale: { x: "shared" } } };
}

/** The points of a line, at most 800. */
export function points(rows: readonly MetricRow[], valueOf: (row: MetricRow, i: number) => number): Point[] {
  return thin(rows.map((row, i) => ({ x: row.step, y: valueOf(row, i) })), MAX_POINTS);
}
