/**
 * The figures at the top of a page about a run that is under way.
 *
 * @module
 */

import { bytesText, endingText } from "./cost_text.ts";
import { explain } from "./explain.ts";
import { median, short, whole } from "./numbers.ts";
import type { Line, RunReport } from "./types.ts";

/** Steps whose median says how fast a run is now. */
const RECENT = 50;

/**
 * Sums up how far a run is.
 *
 * @param lines Its log, from its start
 * @returns Labels and values, most important first
 */
export function liveSummary(lines: readonly Line[]): RunReport["summary"] {
  const { steps, planned, finished, ending, share, adapter } = explain(lines);
  const rows = lines.filter((line) => line.kind === "step"), last = rows.at(-1);
  const figures: [label: string, value: string][] = [
    [
      finished ? "Ended after" : "Step",
      `${steps}${planned === null ? "" : ` of ${planned}`}${endingText(ending)}`,
    ],
  ];
  if (last !== undefined) {
    const stepMs = median(rows.slice(-RECENT).map((row) => row.stepMs));
    figures.push(["Loss", short(last.loss ?? NaN, 4)]);
    if (last.learningRate !== null) figures.push(["Learning rate", short(last.learningRate)]);
    if (last.tokensPerSecond !== undefined) figures.push(["Tokens a second", whole(last.tokensPerSecond)]);
    figures.push(["A step", `${short(stepMs)} ms`]);
    if (!finished && planned !== null) figures.push(["Time left", duration((planned - steps) * stepMs)]);
    if (last.memoryBytes !== undefined) figures.push(["Device memory", bytesText(last.memoryBytes)]);
  }
  if (share !== null) figures.push(["Frozen", `${short(100 * share)} % of the elements`]);
  return [...figures, ["Adapter", adapter]];
}

/** Hours, minutes and seconds of milliseconds, without those that are nothing in front. */
export function duration(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000), minutes = Math.floor(seconds / 60);
  const two = (n: number): string => String(n).padStart(2, "0");
  return minutes < 60
    ? `${minutes}:${two(seconds % 60)}`
    : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(seconds % 60)}`;
}
