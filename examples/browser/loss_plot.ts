/**
 * The loss of a run, drawn.
 *
 * @module
 */

import { lossLines, type MetricRow, type Point } from "@firn/train/report";
import { figure, stepTicks, svg, ticks, WIDTH } from "./svg.ts";

const HEIGHT = 260;
/** Steps that the table lists. */
const LISTED = 500;
const [LEFT, RIGHT, TOP, BOTTOM] = [52, 12, 10, 34];

/**
 * Draws the loss of each step, raw and smoothed, and lists the losses.
 *
 * @param rows Steps, at least one
 * @returns A section of the page
 */
export function lossPlot(rows: readonly MetricRow[]): HTMLElement {
  const { losses, means, last } = lossLines(rows), known = losses.map(({ y }) => y).filter(Number.isFinite);
  const [least, most] = [Math.min(...known), Math.max(...known)], room = (most - least || 1) * 0.05;
  const domain = [rows[0].step - 0.5, rows.at(-1)!.step + 0.5] as const;
  const [low, high] = [least - room, most + room];
  const x = (step: number) => LEFT + (step - domain[0]) / (domain[1] - domain[0]) * (WIDTH - LEFT - RIGHT);
  const y = (loss: number) => TOP + (high - loss) / (high - low) * (HEIGHT - TOP - BOTTOM);
  const line = (points: readonly Point[]) =>
    points.filter((point) => Number.isFinite(point.y))
      .map((point) => `${x(point.x).toFixed(1)},${y(point.y).toFixed(1)}`).join(" ");
  const base = HEIGHT - BOTTOM;
  return figure({
    title: "Loss",
    height: HEIGHT,
    drawing: [
      ...ticks(low, high, 6).flatMap((value) => [
        svg("line", { class: "gridline", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
        svg("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, String(value)),
      ]),
      ...stepTicks(domain).map((step) =>
        svg("text", { x: x(step), y: base + 18, "text-anchor": "middle" }, String(step))
      ),
      svg("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: base, y2: base }),
      svg("polyline", { class: "raw", points: line(losses) }),
      svg("polyline", { class: "smooth", points: line(means) }),
    ],
    caption: `Loss of each step, and its moving mean. After step ${rows.at(-1)!.step}: ${shown(last)}.`,
    extras: [lossTable(rows)],
  });
}

const shown = (loss: number): string => Number.isFinite(loss) ? loss.toPrecision(6) : "–";

function lossTable(rows: readonly MetricRow[]): HTMLElement {
  const details = document.createElement("details"), summary = document.createElement("summary");
  summary.textContent = "As a table";
  const scroll = document.createElement("div"), table = document.createElement("table");
  scroll.className = "scroll";
  table.id = "losses";
  const head = table.createTHead().insertRow();
  for (const name of ["Step", "Loss", "Tokens a second"]) {
    const cell = document.createElement("th");
    [cell.scope, cell.textContent] = ["col", name];
    head.append(cell);
  }
  const body = table.createTBody();
  for (const { step, loss, tokensPerSecond } of rows.slice(-LISTED)) {
    const row = body.insertRow(), name = document.createElement("th");
    [name.scope, name.textContent] = ["row", String(step)];
    row.append(name);
    row.insertCell().textContent = shown(loss);
    row.insertCell().textContent = tokensPerSecond?.toLocaleString("en") ?? "–";
  }
  scroll.append(table);
  details.append(summary, scroll);
  return details;
}
