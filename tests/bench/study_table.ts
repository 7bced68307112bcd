/**
 * The one table of the study, in Markdown.
 *
 * @module
 */

import type { StudyLine } from "./study_lines.ts";
import { isExploratory } from "./study_plan.ts";
import { DIVERGED } from "./study_run.ts";
import { meanOf } from "./study_statistics.ts";
import { type Corrected, type Summary, verdictOf } from "./study_summary.ts";

const HEAD = [
  "task, arm",
  "rate",
  "seeds",
  "steps",
  "quality",
  "to full",
  "at equal time",
  "undisturbed",
  "s",
  "s, undisturbed",
  "changes, s",
  "TFLOP",
  "MB",
  "J",
  "forgetting",
  "frozen",
] as const;

/** Whether quality is accuracy, which is told in per cent. */
export function isAccuracy({ lines }: Pick<Summary, "lines">): boolean {
  return lines.every(({ quality }) => quality >= 0);
}

/** The mean quality of runs as people read it: per cent, or the loss. */
export function meanText(lines: readonly StudyLine[]): string {
  const mean = meanOf(lines.map(({ quality }) => quality));
  if (mean < DIVERGED / 10) return "diverged";
  return isAccuracy({ lines }) ? (100 * mean).toFixed(2) : (-mean).toFixed(4);
}

/** That mean, and its ends. */
function qualityText({ lines }: Summary): string {
  const own = meanText(lines), accuracy = isAccuracy({ lines });
  if (own === "diverged") return own;
  const values = lines.map(({ quality }) => accuracy ? 100 * quality : -quality);
  const show = (x: number): string => x.toFixed(accuracy ? 2 : 4);
  return values.length === 1 ? own : `${own} (${show(Math.min(...values))} – ${show(Math.max(...values))})`;
}

const signed = (x: number, digits: number): string => `${x < 0 ? "-" : "+"}${Math.abs(x).toFixed(digits)}`;

/** A difference with its interval, if it has one: points of accuracy, or nats by which the loss is lower; bold beyond chance. */
export function differenceText(difference: Corrected | null, accuracy: boolean): string {
  if (difference === null) return "";
  const scale = accuracy ? 100 : 1, digits = accuracy ? 2 : 4;
  const { mean, low, high, count } = difference;
  const interval = ` (${signed(scale * low, digits)} – ${signed(scale * high, digits)})`;
  const text = `${difference.slower ? "≥ " : ""}${signed(scale * mean, digits)}${count > 1 ? interval : ""}`;
  return verdictOf(difference) === "open" ? text : `**${text}**`;
}

/** Perplexity of the State of the Union, before and after. */
function forgettingText({ lines, mean }: Summary): string {
  if (lines.some(({ perplexity }) => perplexity === null)) return "";
  const at = (i: number): string => mean(({ perplexity }) => perplexity![i]).toFixed(1);
  return `${at(0)} → ${at(1)}`;
}

/** Marks a rate that is the last one tried on its side, so that a further one may be better. */
function edgeText({ task, rate }: Summary): string {
  if (rate === null || task.rates.includes(rate)) return "";
  return rate > Math.max(...task.rates) ? " (highest)" : " (lowest)";
}

function rowOf(summary: Summary): string[] {
  const { task, arm, rate, seeds, lines, mean } = summary, accuracy = isAccuracy(summary);
  const shown = (value: (line: StudyLine) => number, digits: number): string => mean(value).toFixed(digits);
  const joules = lines.every(({ joules }) => joules !== null);
  return [
    `${task.name}, ${arm}${isExploratory(summary) ? " (exploratory)" : ""}`,
    `${rate ?? lines[0].rate}${edgeText(summary)}`,
    seeds === 0 ? "tuning" : `${seeds}`,
    shown(({ steps }) => steps, 0),
    qualityText(summary),
    differenceText(summary.toFull, accuracy),
    differenceText(summary.atEqualTime, accuracy),
    differenceText(summary.atEqualUndisturbed, accuracy),
    ...[
      summary.seconds,
      summary.undisturbed,
      summary.median(({ changing }) => changing),
    ].map((seconds) => seconds.toFixed(2)),
    shown(({ flops }) => flops / 1e12, 1),
    shown(({ peakBytes }) => peakBytes / 1e6, 0),
    joules ? shown((line) => line.joules!, 0) : "",
    forgettingText(summary),
    `${shown(({ frozen }) => frozen, 0)} of ${lines[0].components}`,
  ];
}

/** Rows of cells as a table of Markdown. */
export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`);
}

/** The table, of all columns or without some. */
export function studyTable(
  summaries: readonly Summary[],
  { without = [] }: { readonly without?: readonly typeof HEAD[number][] } = {},
): string[] {
  const shown = (_: string, i: number): boolean => !without.includes(HEAD[i]);
  return markdownTable(HEAD.filter(shown), summaries.map((summary) => rowOf(summary).filter(shown)));
}
