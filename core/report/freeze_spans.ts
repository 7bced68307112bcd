/**
 * What was frozen when, and what was read until then, as spans of steps in colours: what a freeze plot draws.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { quantile, short } from "./numbers.ts";
import type { Readings, RunReport } from "./types.ts";

const MAX_CELLS = 9000;
const MAX_BINS = 200;
const MAX_NAME = 28;

/** A range of steps of one component in one colour. */
export interface FreezeSpan {
  /** Path of the component. */
  readonly path: string;
  /** Where it begins, in steps. */
  readonly x: number;
  /** Where it ends. */
  readonly x2: number;
  /** A value of `fill` in SVG: `url(#frozen)`, or one of the custom properties `--heat0`, cold, to `--heat9`. */
  readonly fill: string;
}

/** What a freeze plot draws: components from top to bottom, steps from left to right. */
export interface FreezeSpans {
  /** Its rows: components that were measured or frozen; all when there are no readings. */
  readonly shown: RunReport["components"];
  /** Spans, in the order in which they are drawn. */
  readonly spans: readonly FreezeSpan[];
  /** Ends of the step axis. */
  readonly domain: readonly [from: number, to: number];
  /** Height of a row in pixels. */
  readonly rowHeight: number;
  /** Names of rows, by path. Where rows are low, only the first of each layer has one. */
  readonly labels: Readonly<Record<string, string>>;
  /** Decades on both sides of the threshold that colours cover; 0 without readings. */
  readonly edge: number;
  /** What is shown, in words. */
  readonly caption: string;
}

/**
 * Finds what a freeze plot draws.
 *
 * @param run The run, of at least one step
 * @returns The rows and their spans; null when no component was measured or frozen
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { freezeSpans } from "@firn/train/report";
 *
 * const step = { loss: 1, learningRate: 0.1, stepMs: 1, flops: 1, launches: 1, frozen: 0 };
 * const cost = { launches: 1, flops: 1, matmulFlops: 1, bytes: 1, memory: 1, constants: 0 };
 * const drawn = freezeSpans({
 *   title: "",
 *   summary: [],
 *   config: {},
 *   rows: [1, 2, 3].map((at) => ({ ...step, step: at })),
 *   components: [{ path: "w", layer: null, kind: "linear", size: 4 }],
 *   events: [{ step: 2, frozen: ["w"], thawed: [], before: cost, after: cost }],
 *   frozenAt: { w: 2 },
 * });
 * assertEquals(drawn?.spans.map(({ x, x2, fill }) => [x, x2, fill]), [
 *   [0.5, 3.5, "var(--heat5)"],
 *   [2.5, 3.5, "url(#frozen)"],
 * ]);
 * ```
 */
export function freezeSpans(run: RunReport): FreezeSpans | null {
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
  const sentences = [
    `In ${counted(rows.length, "step")}, ${frozen.length} of ${
      counted(components.length, "component")
    } froze.`,
  ];
  if (shown.length < components.length) {
    sentences.push(`Shown are the ${shown.length} that were measured or frozen.`);
  }
  if (readings) {
    const threshold = `τ\u00a0=\u00a0${short(readings.tau)}`;
    sentences.push(`Colour: ${readings.signal} of a component over the threshold ${threshold}.`);
  }
  if (hatched.length < all.length) sentences.push("Short thaws are not drawn.");
  return {
    shown,
    spans: [...spans, ...hatched],
    domain: frame.domain,
    rowHeight,
    labels,
    edge,
    caption: sentences.join(" "),
  };
}

/** Full names when rows are high enough, else one name for each layer. */
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
  // The end of a long name is more specific than its start.
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
  readonly spans: readonly FreezeSpan[];
  readonly edge: number;
}

function binWidth({ paths, domain: [from, to] }: Frame): number {
  const bins = Math.max(1, Math.min(MAX_BINS, Math.floor(MAX_CELLS / paths.length)));
  return Math.ceil((to - from) / bins);
}

function frozenSpans({ events, frozenAt }: RunReport, { paths, domain: [from, to] }: Frame): FreezeSpan[] {
  // A resumed run has no event for what was frozen before its first row.
  const since = new Map(
    Object.entries(frozenAt).filter(([, step]) => step < from).map(([path]) => [path, from]),
  );
  const spans: FreezeSpan[] = [];
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

/** Joins spans of each path over gaps up to `gap`. Spans of a path are in order. */
function joined(spans: readonly FreezeSpan[], gap: number): FreezeSpan[] {
  const last = new Map<string, FreezeSpan>();
  const done: FreezeSpan[] = [];
  for (const span of spans) {
    const before = last.get(span.path);
    const joins = before !== undefined && span.x - before.x2 <= gap;
    if (before !== undefined && !joins) done.push(before);
    last.set(span.path, joins ? { ...before, x2: span.x2 } : span);
  }
  return [...done, ...last.values()];
}

/** Spans of one colour, for a run without readings. */
function plain({ paths, domain: [x, x2] }: Frame): Heat {
  return { spans: paths.map((path) => ({ path, x, x2, fill: "var(--heat5)" })), edge: 0 };
}

/** Means of log readings over bins of steps, in ten colours. Equal neighbours make one span. */
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

  const spans: FreezeSpan[] = [];
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
