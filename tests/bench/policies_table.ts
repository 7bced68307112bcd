/**
 * The comparison of policies as a table: means over seeds with the least and the greatest.
 *
 * @module
 */

import type { Run } from "./policies_run.ts";

/** Mean and ends of some values. */
export interface Range {
  readonly mean: number;
  readonly min: number;
  readonly max: number;
}

/** All runs of one name. */
export interface Summary {
  readonly label: string;
  readonly seeds: number;
  readonly steps: Range;
  readonly frozen: Range;
  readonly components: number;
  /** On the test part. */
  readonly loss: Range;
  readonly accuracy: Range | null;
  /** Last loss on the validation part. */
  readonly validation: Range;
  readonly total: Range;
  readonly changing: Range;
  readonly compiling: Range;
  readonly validating: Range;
  readonly flops: Range;
  /** Loss over that of the full run of the same seed, less one; null for what has no such run. */
  readonly lossChange: Range | null;
  /** Points of accuracy above the full run of the same seed. */
  readonly accuracyChange: Range | null;
  /** Time over that of the full run of the same seed. */
  readonly timeShare: Range | null;
}

/** Mean, least and greatest. */
export function rangeOf(values: readonly number[]): Range {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return { mean, min: Math.min(...values), max: Math.max(...values) };
}

/** Summaries by name, in the order in which names appear. */
export function summarise(runs: readonly Run[]): Summary[] {
  const full = new Map(runs.filter(({ label }) => label === "full").map((run) => [run.seed, run]));
  return [...new Set(runs.map(({ label }) => label))].map((label): Summary => {
    const own = runs.filter((run) => run.label === label);
    const over = (value: (run: Run) => number): Range => rangeOf(own.map(value));
    const pairs = own.flatMap((run) => full.has(run.seed) ? [[run, full.get(run.seed)!] as const] : []);
    const against = (value: (run: Run, full: Run) => number): Range | null =>
      pairs.length === 0 ? null : rangeOf(pairs.map(([run, other]) => value(run, other)));
    const classes = own.every(({ test }) => test.accuracy !== null);
    return {
      label,
      seeds: own.length,
      steps: over(({ steps }) => steps),
      frozen: over(({ frozen }) => frozen),
      components: own[0].components,
      loss: over(({ test }) => test.loss),
      accuracy: classes ? over(({ test }) => test.accuracy!) : null,
      validation: over(({ curve }) => curve.at(-1)!.loss),
      total: over(({ total }) => total),
      changing: over(({ changing }) => changing),
      compiling: over(({ compiling }) => compiling),
      validating: over(({ validating }) => validating),
      flops: over(({ flops }) => flops),
      lossChange: against((run, other) => run.test.loss / other.test.loss - 1),
      accuracyChange: classes
        ? against((run, other) => 100 * (run.test.accuracy! - other.test.accuracy!))
        : null,
      timeShare: against((run, other) => run.total / other.total),
    };
  });
}

/** The table in lines. */
export function tableLines(summaries: readonly Summary[]): string[] {
  const classes = summaries.some(({ accuracy }) => accuracy !== null);
  const head = [
    "run",
    "seeds",
    "steps",
    "frozen",
    ...classes ? ["accuracy %", "to full, points"] : [],
    "loss",
    "to full",
    "seconds",
    "to full",
    "TFLOP",
    "changes s",
    "compiling s",
    "validation s",
  ];
  const rows = summaries.map((s) => [
    s.label,
    `${s.seeds}`,
    ends(s.steps, whole),
    ends(s.frozen, whole),
    ...classes
      ? [
        s.accuracy === null ? "" : spread(s.accuracy, (v) => (100 * v).toFixed(2)),
        s.accuracyChange === null ? "" : signed(s.accuracyChange.mean, 2),
      ]
      : [],
    spread(s.loss, (v) => v.toFixed(4)),
    s.lossChange === null ? "" : `${signed(100 * s.lossChange.mean, 2)} %`,
    spread(s.total, (v) => v.toPrecision(3)),
    s.timeShare === null ? "" : `x ${s.timeShare.mean.toFixed(3)}`,
    (s.flops.mean / 1e12).toPrecision(3),
    s.changing.mean.toFixed(2),
    s.compiling.mean.toFixed(2),
    s.validating.mean.toFixed(2),
  ]);
  const lines = [head, ...rows];
  const widths = head.map((_, i) => Math.max(...lines.map((line) => line[i].length)));
  return lines.map((line) =>
    line.map((cell, i) => i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join("  ").trimEnd()
  );
}

const whole = (value: number): string => value.toFixed(0);
const signed = (value: number, digits: number): string => `${value < 0 ? "" : "+"}${value.toFixed(digits)}`;

/** Both ends, or the one value that they are. */
function ends({ min, max }: Range, show: (value: number) => string): string {
  return min === max ? show(min) : `${show(min)}..${show(max)}`;
}

function spread({ mean, min, max }: Range, show: (value: number) => string): string {
  return `${show(mean)} (${show(min)}..${show(max)})`;
}
