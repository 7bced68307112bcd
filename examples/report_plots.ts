/**
 * The plots of a report: Vega-Lite specifications, drawn to SVG without a browser.
 *
 * Colours are custom properties of the page, so that one drawing serves light and dark.
 *
 * @module
 */

// These examples draw with Vega; the package itself does not depend on it.
// deno-lint-ignore-file no-import-prefix
import { parse, View } from "npm:vega@6.4.0";
import { compile, type TopLevelSpec } from "npm:vega-lite@6.4.3";
import type { MetricRow, Readings, RunReport } from "./report.ts";
import {
  centredMeans,
  centredMedians,
  median,
  type Point,
  quantile,
  short,
  thin,
  whole,
} from "./report_numbers.ts";

/** A drawing and what it shows in words. */
export interface Plot {
  readonly svg: string;
  readonly caption: string;
}

/** A {@link Plot} of readings: its colours cover `edge` decades on both sides of the threshold. */
export interface HeatPlot extends Plot {
  readonly edge: number;
  /** Its rows: what was measured or frozen, or all components where there are no readings. */
  readonly shown: RunReport["components"];
}

const WIDTH = 800;
const MAX_POINTS = 800;
const MAX_CELLS = 9000;
const MAX_BINS = 200;
const MAX_RULES = 200;
const MAX_NAME = 28;
/** Times the median from which on a step counts as slow: it compiled, or the machine was busy. */
const SLOW = 3;

const X = { field: "x", type: "quantitative", scale: { nice: false, zero: false } };
const STEP_AXIS = { title: "step", tickMinStep: 1, format: "d" };
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

async function draw(spec: object): Promise<string> {
  const top = { background: "transparent", padding: 4, config: THEME, ...spec } as TopLevelSpec;
  const view = new View(parse(compile(top).spec), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  return svg;
}

/**
 * Draws the loss, raw and smoothed, above the learning rate.
 *
 * @param run The run, of at least one step
 * @returns The plot
 */
export async function lossPlot({ rows }: RunReport): Promise<Plot> {
  const reach = Math.round(rows.length / 60);
  const smooth = centredMeans(rows.map(({ loss }) => loss), reach);
  const losses: Line[] = [
    { points: points(rows, ({ loss }) => loss), stroke: "var(--faint)", width: 1 },
    { points: points(rows, (_, i) => smooth[i]), stroke: "var(--accent)" },
  ];
  const judged = rows.filter(({ validation }) => validation !== undefined);
  if (judged.length > 0) {
    losses.push({
      points: points(judged, ({ validation }) => validation!),
      stroke: "var(--heat8)",
      width: 1.5,
    });
  }
  const sentences = ["Fine line: loss of each step."];
  if (reach > 0) sentences.push(`Bold line: its mean over the ${2 * reach + 1} steps around.`);
  sentences.push(`It ends at ${short(smooth[rows.length - 1])}.`);

  if (judged.length > 0) {
    const least = Math.min(...judged.map(({ validation }) => validation!));
    sentences.push(`Orange: loss of the validation batches, ${short(least)} at best.`);
  }

  const rated = rows.some(({ learningRate }) => Number.isFinite(learningRate));
  const panels = [panel(losses, { height: 240, title: "loss", upper: rated })];
  if (rated) {
    const rate = {
      points: points(rows, ({ learningRate }) => learningRate),
      stroke: "var(--soft)",
      width: 1.5,
    };
    panels.push(panel([rate], { height: 56, title: "rate", zero: true, format: "~g" }));
    sentences.push("Below: the learning rate.");
  }
  return { svg: await draw(stacked(panels)), caption: sentences.join(" ") };
}

/**
 * Draws the time, the floating-point operations and the frozen components of each step.
 *
 * @param run The run, of at least one step
 * @returns The plot
 */
export async function costPlot({ rows, events }: RunReport): Promise<Plot> {
  const limit = SLOW * median(rows.map(({ stepMs }) => stepMs));
  const fast = rows.filter(({ stepMs }) => stepMs <= limit);
  const middle = centredMedians(fast.map(({ stepMs }) => stepMs), Math.min(12, Math.round(fast.length / 60)));
  const apart = Math.ceil(rows.length / MAX_RULES);
  const rules = [...new Map(events.map(({ step }) => [Math.floor(step / apart), step + 0.5])).values()];
  const times = [
    { points: points(fast, ({ stepMs }) => stepMs), stroke: "var(--faint)", width: 1 },
    { points: points(fast, (_, i) => middle[i]), stroke: "var(--accent)" },
  ];
  const flops = { points: points(rows, ({ flops }) => flops), stroke: "var(--accent)", stairs: true };
  const frozen = {
    points: points(rows, ({ frozen }) => frozen),
    stroke: "var(--soft)",
    width: 1.5,
    stairs: true,
  };
  const panels = [
    panel(times, { height: 150, title: "ms", zero: true, upper: true, rules }),
    panel([flops], { height: 110, title: "FLOPs", zero: true, format: "~s", upper: true, rules }),
    panel([frozen], { height: 56, title: "frozen", zero: true, format: "d", rules }),
  ];

  const sentences = [
    "From the top: milliseconds with their running median, floating-point operations, frozen components.",
    `The median step took ${short(median(rows.map(({ stepMs }) => stepMs)))} ms.`,
  ];
  const paces = rows.flatMap(({ tokensPerSecond }) => tokensPerSecond ?? []);
  if (paces.length > 0) sentences.push(`That is ${whole(median(paces))} tokens a second.`);
  const slow = rows.length - fast.length;
  if (slow > 0) {
    sentences.push(`Not drawn: ${slow} of ${rows.length} steps that took over ${SLOW} times the median.`);
  }
  if (events.length > 0) {
    const share = rows.reduce((sum, { flops }) => sum + flops, 0) / (events[0].before.flops * rows.length);
    sentences.push(
      "Vertical rules: the frozen set changed.",
      `The run took ${short(100 * share)} % of the FLOPs of as many steps without a freeze.`,
    );
  }
  return { svg: await draw(stacked(panels)), caption: sentences.join(" ") };
}

interface Line {
  readonly points: readonly Point[];
  readonly stroke: string;
  readonly width?: number;
  readonly stairs?: boolean;
}

interface PanelOptions {
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
}

function panel(lines: readonly Line[], options: PanelOptions): object {
  const { height, title, zero = false, format, upper = false, rules = [] } = options;
  const x = { ...X, axis: upper ? { title: null, labels: false, ticks: false } : STEP_AXIS };
  const axis = { title, minExtent: 48, maxExtent: 48, tickCount: height / 35, ...(format && { format }) };
  const y = { field: "y", type: "quantitative", scale: { zero }, axis };
  const layer = lines.map(({ points, stroke, width = 2, stairs = false }) => ({
    data: { values: points },
    mark: {
      type: "line",
      stroke,
      strokeWidth: width,
      strokeJoin: "round",
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

function stacked(panels: readonly object[]): object {
  return { vconcat: panels, spacing: 16, resolve: { scale: { x: "shared" } } };
}

function points(rows: readonly MetricRow[], valueOf: (row: MetricRow, i: number) => number): Point[] {
  return thin(rows.map((row, i) => ({ x: row.step, y: valueOf(row, i) })), MAX_POINTS);
}

/** A stretch of steps of one component in one colour. */
interface Span {
  readonly path: string;
  readonly x: number;
  readonly x2: number;
  readonly fill: string;
}

/**
 * Draws components downwards in model order and steps across: readings as colours, frozen stretches hatched.
 *
 * @param run The run, of at least one step
 * @returns The plot; null when no component was measured or frozen
 */
export async function freezePlot(run: RunReport): Promise<HeatPlot | null> {
  const { components, readings, frozenAt, events, rows } = run;
  const frozen = components.filter(({ path }) => Object.hasOwn(frozenAt, path));
  const seen = new Set([
    ...readings?.values.flatMap(({ path, value }) => Number.isNaN(value) ? [] : [path]) ?? [],
    ...events.flatMap((event) => event.frozen),
  ]);
  const touched = components.filter((component) => seen.has(component.path) || frozen.includes(component));
  if (touched.length === 0) return null;
  const shown = readings === undefined ? components : touched;
  const paths = shown.map(({ path }) => path);
  const frame: Frame = { paths, domain: [rows[0].step - 0.5, rows[rows.length - 1].step + 0.5] };
  const { spans, edge } = readings === undefined ? plain(frame) : heat(readings, frame);
  const all = frozenSpans(run, frame);
  const hatched = all.length > MAX_CELLS ? joined(all, binWidth(frame)) : all;

  const rowHeight = Math.max(3, Math.min(16, Math.floor(640 / shown.length)));
  const labels = labelsOf(shown, rowHeight);
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
    data: { values: [...spans, ...hatched] },
    width: WIDTH - 130,
    height: rowHeight * shown.length,
    mark: "rect",
    encoding: {
      x: { ...X, scale: { ...X.scale, domain: frame.domain }, axis: STEP_AXIS },
      x2: { field: "x2" },
      y: {
        field: "path",
        type: "nominal",
        scale: { domain: paths, paddingInner: rowHeight > 6 ? 0.12 : 0 },
        axis,
      },
      fill: { field: "fill", type: "nominal", scale: null },
    },
  });
  const sentences = [
    `Of ${components.length} components ${frozen.length} were frozen in ${rows.length} steps.`,
  ];
  if (shown.length < components.length) {
    sentences.push(`Shown are the ${shown.length} that were measured or frozen.`);
  }
  if (readings) {
    const threshold = `τ\u00a0=\u00a0${short(readings.tau)}`;
    sentences.push(`Colour: ${readings.signal} of a component over the threshold ${threshold}.`);
  }
  if (hatched.length < all.length) sentences.push("Short thaws are not drawn.");
  return { svg, caption: sentences.join(" "), edge, shown };
}

/** Full names where rows are high enough to read them, else one name a layer. */
function labelsOf(shown: RunReport["components"], rowHeight: number): Record<string, string> {
  if (rowHeight < 9) {
    const firsts = shown.filter(({ layer }, i) => layer !== null && shown[i - 1]?.layer !== layer);
    return Object.fromEntries(firsts.map(({ path, layer }) => [path, `layer ${layer}`]));
  }
  const names = shown.map(({ path }) => path.split("."));
  const depth = Math.min(...names.map((parts) => parts.length - 1));
  const common = Array.from({ length: depth }, (_, i) => i)
    .find((i) => names.some((parts) => parts[i] !== names[0][i])) ?? depth;
  const name = (parts: readonly string[]) => parts.slice(common).join(".");
  // The end of a long name says more than its start.
  const fitted = (text: string) => text.length > MAX_NAME ? `…${text.slice(1 - MAX_NAME)}` : text;
  return Object.fromEntries(shown.map(({ path }, i) => [path, fitted(name(names[i]))]));
}

interface Frame {
  /** Rows from the top. */
  readonly paths: readonly string[];
  /** Ends of the step axis. */
  readonly domain: readonly [from: number, to: number];
}

interface Heat {
  readonly spans: readonly Span[];
  readonly edge: number;
}

function binWidth({ paths, domain: [from, to] }: Frame): number {
  const bins = Math.max(1, Math.min(MAX_BINS, Math.floor(MAX_CELLS / paths.length)));
  return Math.ceil((to - from) / bins);
}

function frozenSpans({ events, frozenAt }: RunReport, { paths, domain: [from, to] }: Frame): Span[] {
  // A resumed run has no event for what was frozen before its first row.
  const since = new Map(
    Object.entries(frozenAt).filter(([, step]) => step < from).map(([path]) => [path, from]),
  );
  const spans: Span[] = [];
  const close = (path: string, x2: number): void => {
    const x = since.get(path) ?? x2;
    if (x < x2) spans.push({ path, x, x2, fill: "url(#frozen)" });
    since.delete(path);
  };
  for (const { step, frozen, thawed } of events) {
    for (const path of thawed) close(path, step + 0.5);
    for (const path of frozen) since.set(path, step + 0.5);
  }
  for (const path of paths) close(path, to);
  return spans;
}

/** Spans of each path in order, without the gaps that are not wider than `gap`. */
function joined(spans: readonly Span[], gap: number): Span[] {
  const last = new Map<string, Span>();
  const done: Span[] = [];
  for (const span of spans) {
    const before = last.get(span.path);
    const joins = before !== undefined && span.x - before.x2 <= gap;
    if (before !== undefined && !joins) done.push(before);
    last.set(span.path, joins ? { ...before, x2: span.x2 } : span);
  }
  return [...done, ...last.values()];
}

/** Spans of one colour, where there are no readings. */
function plain({ paths, domain: [x, x2] }: Frame): Heat {
  return { spans: paths.map((path) => ({ path, x, x2, fill: "var(--heat5)" })), edge: 0 };
}

/** Means of log readings over bins of steps as ten classes of colour; equal neighbours make one span. */
function heat(readings: Readings, { paths, domain }: Frame): Heat {
  const [from, to] = domain;
  const width = binWidth({ paths, domain });
  const bins = Math.ceil((to - from) / width);
  const rowOf = new Map(paths.map((path, row) => [path, row]));
  const sums = new Float64Array(paths.length * bins), counts = new Float64Array(paths.length * bins);
  for (const { path, step, value } of readings.values) {
    const row = rowOf.get(path);
    if (row === undefined || Number.isNaN(value) || step < from || step > to) continue;
    const cell = row * bins + Math.floor((step - from) / width);
    sums[cell] += Math.log10(value / readings.tau);
    counts[cell]++;
  }
  const means = Array.from(sums, (sum, cell) => sum / counts[cell]);
  const extents = means.filter(Number.isFinite).map(Math.abs);
  const edge = Math.max(0.1, Math.min(3, quantile(extents, 0.95) ?? 1));

  const spans: Span[] = [];
  means.forEach((mean, cell) => {
    if (Number.isNaN(mean)) return;
    const level = Math.max(0, Math.min(9, Math.floor(5 * (mean / edge + 1))));
    const x = from + (cell % bins) * width;
    const path = paths[Math.floor(cell / bins)];
    const span = { path, x, x2: Math.min(to, x + width), fill: `var(--heat${level})` };
    const last = spans[spans.length - 1];
    const joins = last?.path === path && last.x2 === x && last.fill === span.fill;
    if (joins) spans[spans.length - 1] = { ...last, x2: span.x2 };
    else spans.push(span);
  });
  return { spans, edge };
}
