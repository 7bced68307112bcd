/**
 * The plots of a report that follow the steps: loss and cost.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { centredMeans, centredMedians, fitted, median, type Point, short, whole } from "./numbers.ts";
import { draw, type Line, panel, type Plot, points, stacked } from "./plots.ts";
import type { MetricRow, RunReport } from "./types.ts";

const MAX_RULES = 200;
/** Times the median from which on a step counts as slow: it compiled, or the machine was busy. */
const SLOW = 3;

/** The loss of a run as lines. */
export interface LossLines {
  /** Of each step; of a long run the extremes. */
  readonly losses: readonly Point[];
  /** Its mean over the steps around. */
  readonly means: readonly Point[];
  /** How many steps on each side. */
  readonly reach: number;
  /** The last of the means. */
  readonly last: number;
}

/**
 * Finds the lines that a plot of the loss draws.
 *
 * @param rows Steps, at least one
 * @returns At most 800 points a line; a line has a gap where y is not finite
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { lossLines } from "@firn/train/report";
 *
 * const row = { learningRate: 0.1, stepMs: 1, flops: 1, launches: 1, frozen: 0 };
 * const { losses, reach } = lossLines([{ ...row, step: 1, loss: 3 }, { ...row, step: 2, loss: 2 }]);
 * assertEquals([losses, reach], [[{ x: 1, y: 3 }, { x: 2, y: 2 }], 0]);
 * ```
 */
export function lossLines(rows: readonly MetricRow[]): LossLines {
  const reach = Math.round(rows.length / 60), smooth = centredMeans(rows.map(({ loss }) => loss), reach);
  return {
    losses: points(rows, ({ loss }) => loss),
    means: points(rows, (_, i) => smooth[i]),
    reach,
    last: smooth[rows.length - 1],
  };
}

/**
 * Draws the loss, raw and smoothed, above the learning rate.
 *
 * @param run The run, of at least one step
 * @returns The plot
 */
export async function lossPlot({ rows }: RunReport): Promise<Plot> {
  const { reach, last, ...lines } = lossLines(rows);
  const losses: Line[] = [
    { points: lines.losses, stroke: "var(--faint)", width: 1 },
    { points: lines.means, stroke: "var(--accent)" },
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
  sentences.push(`It ends at ${short(last)}.`);

  if (judged.length > 0) {
    const least = judged.reduce((best, { validation }) => Math.min(best, validation!), Infinity);
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

/** Numbers of a loss that are drawn. */
const MOST_METRICS = 8;

/**
 * Draws what a loss has beside its value: a panel for each number, raw and smoothed.
 *
 * @param run The run, of at least one step
 * @returns The plot; null where the loss has nothing else
 */
export async function metricsPlot({ rows }: Pick<RunReport, "rows">): Promise<Plot | null> {
  const all = [...new Set(rows.flatMap(({ metrics = {} }) => Object.keys(metrics)))];
  if (all.length === 0) return null;
  const reach = Math.round(rows.length / 60), names = all.slice(0, MOST_METRICS);
  const panels = names.map((name, i) => {
    const values = rows.map(({ metrics = {} }) => Object.hasOwn(metrics, name) ? metrics[name] : NaN);
    const smooth = centredMeans(values, reach);
    const lines = [
      { points: points(rows, (_, i) => values[i]), stroke: "var(--faint)", width: 1 },
      { points: points(rows, (_, i) => smooth[i]), stroke: "var(--accent)" },
    ];
    return panel(lines, { height: 90, title: fitted(name), upper: i < names.length - 1 });
  });
  return { svg: await draw(stacked(panels)), caption: `From the top: ${names.join(", ")}, of each step.` };
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
  const withTokens = rows.filter(({ tokensPerSecond }) => tokensPerSecond !== undefined);
  const held = rows.filter(({ memoryBytes }) => memoryBytes !== undefined);
  const tokens = {
    points: points(withTokens, ({ tokensPerSecond }) => tokensPerSecond!),
    stroke: "var(--accent)",
    width: 1.5,
  };
  const memory = {
    points: points(held, ({ memoryBytes }) => memoryBytes! / 2 ** 20),
    stroke: "var(--heat8)",
    width: 1.5,
    stairs: true,
  };
  const sent = rows.filter(({ exchanged }) => exchanged !== undefined);
  const exchange = {
    points: points(sent, ({ exchanged }) => exchanged! / 2 ** 20),
    stroke: "var(--accent)",
    stairs: true,
  };
  const upper = { zero: true, upper: true, rules };
  const panels = [
    panel(times, { height: 150, title: "ms", ...upper }),
    ...withTokens.length > 0
      ? [panel([tokens], { height: 80, title: "tokens/s", format: "~s", ...upper })]
      : [],
    ...held.length > 0 ? [panel([memory], { height: 80, title: "MiB", ...upper })] : [],
    panel([flops], { height: 110, title: "FLOPs", format: "~s", ...upper }),
    ...sent.length > 0 ? [panel([exchange], { height: 80, title: "MiB sent", ...upper })] : [],
    panel([frozen], { height: 56, title: "frozen", zero: true, format: "d", rules }),
  ];

  const sentences = [
    `From the top: milliseconds with their running median, ${
      withTokens.length > 0 ? "tokens a second, " : ""
    }${held.length > 0 ? "memory on the device, " : ""}floating-point operations, ${
      sent.length > 0 ? "bytes given to other ranks, " : ""
    }frozen components.`,
    `The median step took ${short(median(rows.map(({ stepMs }) => stepMs)))} ms.`,
  ];
  const paces = rows.flatMap(({ tokensPerSecond }) => tokensPerSecond ?? []);
  if (paces.length > 0) sentences.push(`That is ${counted(whole(median(paces)), "token")} a second.`);
  sentences.push(...exchangeSentences(rows));
  const slow = rows.length - fast.length;
  if (slow > 0) {
    sentences.push(
      `Not drawn: ${slow} of ${counted(rows.length, "step")} that took over ${SLOW} times the median.`,
    );
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

/** What the exchange between ranks took, and how much of it the backward pass hid. */
function exchangeSentences(rows: readonly MetricRow[]): string[] {
  const timed = rows.filter(({ exchangeMs = 0 }) => exchangeMs > 0);
  if (timed.length === 0) return [];
  const all = timed.reduce((sum, { exchangeMs }) => sum + exchangeMs!, 0);
  const waited = timed.reduce((sum, { exchangeWaitedMs = 0 }) => sum + exchangeWaitedMs, 0);
  return [
    `Sums were on their way between ranks for ${short(all / timed.length)} ms a step, ${
      whole(100 * (1 - waited / all))
    } % of it while the backward pass went on.`,
  ];
}
