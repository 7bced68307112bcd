/**
 * The plots of a comparison: one line a run.
 *
 * @module
 */

import type { Axis, ComparedRun } from "./compared_run.ts";
import { type Point, thin } from "./numbers.ts";
import { draw, type Line, panel, type Plot, STEP_AXIS } from "./plots.ts";

const COLORS = 8;
const MOST_POINTS = 800;
/** Runs beyond the colours have them again, dashed. */
const DASHES: readonly (readonly number[] | undefined)[] = [undefined, [7, 3], [2, 3], [9, 3, 2, 3]];

/** How the line of a run looks: its colour, and its dashes. */
export function strokeOf(run: number): { readonly stroke: string; readonly dash?: readonly number[] } {
  const dash = DASHES[Math.floor(run / COLORS) % DASHES.length];
  return { stroke: `var(--run${run % COLORS})`, ...dash && { dash } };
}

/**
 * Draws the loss of each run.
 *
 * @param runs The runs
 * @param axis What is drawn from left to right
 * @returns The plot; null where no run has it
 */
export async function lossesPlot(runs: readonly ComparedRun[], axis: Axis): Promise<Plot | null> {
  const { unit, scale, format } = unitOf(runs, axis);
  const lines = linesOf(
    runs,
    ({ axes, loss }) => axes[axis]?.map((x, i) => ({ x: x / scale, y: loss[i] })) ?? [],
  );
  if (lines.length === 0) return null;
  const options = { height: 260, title: "loss", axis: { ...STEP_AXIS, title: unit, format } };
  const without = axis === "tokens"
    ? runs.filter(({ axes }) => axes.tokens === null).map(({ name }) => name)
    : [];
  const missing = without.length === 0 ? "" : ` Without a count of tokens: ${without.join(", ")}.`;
  const caption = `Running mean of the loss, by ${unit}.${missing}`;
  return { svg: await draw(panel(lines, options)), caption };
}

/**
 * Draws the loss on held-out data of each run.
 *
 * @param runs The runs
 * @returns The plot; null where none was computed
 */
export async function heldOutPlot(runs: readonly ComparedRun[]): Promise<Plot | null> {
  const lines = linesOf(runs, ({ heldOut }) => heldOut);
  if (lines.length === 0) return null;
  const svg = await draw(panel(lines, { height: 220, title: "held-out loss" }));
  return { svg, caption: "Loss of the validation batches, or of the first set that was evaluated, by step." };
}

/**
 * Draws what share of each model is frozen.
 *
 * @param runs The runs
 * @returns The plot; null where nothing was frozen
 */
export async function frozenPlot(runs: readonly ComparedRun[]): Promise<Plot | null> {
  if (runs.every(({ explanation }) => explanation.changes.length === 0)) return null;
  const lines = linesOf(runs, ({ frozen }) => frozen.map(({ x, y }) => ({ x, y: 100 * y })))
    .map((line) => ({ ...line, stairs: true }));
  const svg = await draw(panel(lines, { height: 160, title: "% frozen", zero: true }));
  return { svg, caption: "Share of the elements of all components that are frozen, by step." };
}

function linesOf(runs: readonly ComparedRun[], pointsOf: (run: ComparedRun) => readonly Point[]): Line[] {
  return runs.flatMap((run, i) => {
    const points = thin(pointsOf(run), MOST_POINTS);
    return points.length === 0 ? [] : [{ points, width: 1.75, ...strokeOf(i) }];
  });
}

/** What an axis is counted in: minutes or hours where runs are long. */
function unitOf(
  runs: readonly ComparedRun[],
  axis: Axis,
): { readonly unit: string; readonly scale: number; readonly format: string } {
  if (axis !== "seconds") return { unit: axis, scale: 1, format: axis === "tokens" ? "~s" : "d" };
  const most = runs.reduce((most, { axes }) => Math.max(most, axes.seconds?.at(-1) ?? 0), 0);
  if (most < 120) return { unit: "seconds", scale: 1, format: "~r" };
  return most < 7200
    ? { unit: "minutes", scale: 60, format: "~r" }
    : { unit: "hours", scale: 3600, format: "~r" };
}
