/**
 * What a comparison takes from the log of each run.
 *
 * @module
 */

import { explain } from "./explain.ts";
import { recorder } from "./logger.ts";
import { centredMeans, median, type Point } from "./numbers.ts";
import { titleOf } from "./report_of.ts";
import type { Explanation, Line, StepLine } from "./types.ts";

/** A run and its log. */
export interface NamedRun {
  /** Its name among those that are compared, such as that of its folder. */
  readonly name: string;
  /** Its log; the run may be under way. */
  readonly lines: readonly Line[];
}

/** Steps at the end over which numbers of the loss are averaged. */
const RECENT = 10;

/** What runs are compared by. */
export type Axis = "step" | "seconds" | "tokens";

/** A run, made ready to be drawn. */
export interface ComparedRun {
  readonly name: string;
  readonly title: string;
  readonly explanation: Explanation;
  readonly steps: readonly StepLine[];
  /** Where each step ended; tokens are absent where the run did not count them. */
  readonly axes: { readonly [axis in Axis]: readonly number[] | null };
  /** Loss of each step, a running mean. */
  readonly loss: readonly number[];
  /** Loss on held-out data, by step: of validation, or of the first set that was evaluated. */
  readonly heldOut: readonly Point[];
  /** Share of the elements that are frozen, by step, from 0 to 1. */
  readonly frozen: readonly Point[];
  /** The last value of each number that is not of a step alone, by name. */
  readonly last: ReadonlyMap<string, number>;
  /** Median milliseconds and tokens a second, and the most bytes. */
  readonly stepMs: number;
  readonly tokensPerSecond: number | null;
  readonly memoryBytes: number | null;
}

/**
 * Takes from a log what is compared.
 *
 * @param run The run
 * @returns Its numbers
 * @throws {DataError} When the log has no start
 */
export function comparedRun({ name, lines }: NamedRun): ComparedRun {
  const explanation = explain(lines), steps = lines.filter((line) => line.kind === "step");
  const recordOf = recorder(), frozen: Point[] = [], last = new Map<string, number>();
  for (const line of lines) {
    const record = recordOf(line);
    if (record === null) continue;
    const share = record.numbers["train/frozen_share"];
    if (share !== undefined) frozen.push({ x: record.step, y: share });
    for (const [key, value] of Object.entries(record.numbers)) {
      // What the model was before the run is no result of it.
      if (key.startsWith("eval/") && line.kind !== "start") last.set(key, value);
    }
  }
  for (const [name, value] of Object.entries(meansOf(steps.slice(-RECENT)))) last.set(`train/${name}`, value);
  const paces = steps.flatMap(({ tokensPerSecond }) => tokensPerSecond ?? []);
  const held = steps.flatMap(({ memoryBytes }) => memoryBytes ?? []);
  const counted = steps.length > 0 && paces.length === steps.length;
  return {
    name,
    title: titleOf(explanation),
    explanation,
    steps,
    axes: {
      step: steps.map(({ step }) => step),
      seconds: sums(steps.map(({ stepMs }) => stepMs / 1000)),
      tokens: counted ? sums(steps.map(({ stepMs }, i) => paces[i] * stepMs / 1000)) : null,
    },
    loss: lossesOf(steps),
    heldOut: heldOutOf(lines),
    frozen,
    last,
    stepMs: steps.length === 0 ? NaN : median(steps.map(({ stepMs }) => stepMs)),
    tokensPerSecond: paces.length === 0 ? null : median(paces),
    memoryBytes: held.length === 0 ? null : held.reduce((most, bytes) => Math.max(most, bytes)),
  };
}

/** Running means of losses. Where the last ones are not known, they end with the last whole mean. */
function lossesOf(steps: readonly StepLine[]): number[] {
  const last = steps.findLastIndex(({ loss }) => loss !== null), reach = Math.round(steps.length / 60);
  const means = centredMeans(steps.map(({ loss }) => loss ?? NaN), reach);
  return means.map((mean, i) => last < steps.length - 1 && i > last - reach ? NaN : mean);
}

function heldOutOf(lines: readonly Line[]): Point[] {
  const evaluations = lines.filter((line) => line.kind === "evaluation"), set = evaluations[0]?.set;
  const points = lines.flatMap((line) => {
    if (line.kind === "step" && line.validation !== undefined) return [{ x: line.step, y: line.validation }];
    const loss = line.kind === "evaluation" && line.set === set ? line.metrics.loss : undefined;
    return line.kind === "evaluation" && loss != null ? [{ x: line.step, y: loss }] : [];
  });
  // An evaluation comes before the look that brings the steps around it.
  return points.sort((a, b) => a.x - b.x);
}

/** Means of what a loss has beside its value. */
function meansOf(steps: readonly StepLine[]): Record<string, number> {
  const names = [...new Set(steps.flatMap(({ metrics = {} }) => Object.keys(metrics)))];
  return Object.fromEntries(names.map((name) => {
    const values = steps.flatMap(({ metrics = {} }) => Object.hasOwn(metrics, name) ? metrics[name] : []);
    return [name, values.reduce((sum, value) => sum + value, 0) / values.length];
  }));
}

function sums(values: readonly number[]): number[] {
  let sum = 0;
  return values.map((value) => sum += value);
}
