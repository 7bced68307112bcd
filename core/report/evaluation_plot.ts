/**
 * The plot of what was measured while a model trained: a panel for each metric, a line for each set.
 *
 * @module
 */

import { strokeOf } from "./comparison_plots.ts";
import { fitted, thin } from "./numbers.ts";
import { draw, type Line, panel, type Plot, stacked } from "./plots.ts";
import type { RunReport } from "./types.ts";

const MOST_POINTS = 400;
/** Metrics that are drawn; the table has all. */
const MOST_PANELS = 6;

/** A {@link Plot} of evaluations, and its sets in the order of their colours. */
export interface EvaluationPlot extends Plot {
  readonly sets: readonly string[];
}

/**
 * Draws evaluations, step by step.
 *
 * @param evaluations The evaluations, in order
 * @returns The plot; null where fewer than two steps were evaluated
 */
export async function evaluationPlot(
  evaluations: NonNullable<RunReport["evaluations"]>,
): Promise<EvaluationPlot | null> {
  if (new Set(evaluations.map(({ step }) => step)).size < 2) return null;
  const sets = [...new Set(evaluations.map(({ set = "" }) => set))];
  const names = [...new Set(evaluations.flatMap(({ metrics }) => Object.keys(metrics)))].slice(
    0,
    MOST_PANELS,
  );
  const linesOf = (name: string): Line[] =>
    sets.map((set, i) => {
      const own = evaluations.filter((one) => (one.set ?? "") === set && Object.hasOwn(one.metrics, name));
      const points = own.map(({ step, metrics }) => ({ x: step, y: metrics[name] ?? NaN }));
      return { points: thin(points, MOST_POINTS), width: 1.75, ...strokeOf(i) };
    });
  const panels = names.map((name, i) =>
    panel(linesOf(name), { height: 110, title: fitted(name), upper: i < names.length - 1 })
  );
  return { svg: await draw(stacked(panels)), caption: `From the top: ${names.join(", ")}.`, sets };
}
