/**
 * From the log of a run to the content of its report.
 *
 * @module
 */

import type { Component } from "../policy.ts";
import { explain, startOf } from "./explain.ts";
import type { FreezeLine, Line, RunReport, StepLine } from "./types.ts";

/** Options of {@link reportOf}. */
export interface ReportOptions extends Pick<RunReport, "title" | "summary"> {
  /** Components of the model. */
  readonly components: readonly Component[];
  /** What the policy compares with; when absent, what the reasons of the log name. */
  readonly threshold?: { readonly signal: string; readonly tau: number };
}

/**
 * Makes the content of the report.
 *
 * @param lines The log, from its start; the run may be under way
 * @param options What the log does not say
 * @returns The content, for {@link renderReport}
 * @throws {DataError} When no line is the start of a run
 */
export function reportOf(
  lines: readonly Line[],
  options: ReportOptions,
): RunReport {
  const { title, summary, components } = options;
  const start = startOf(lines), end = lines.find((line) => line.kind === "end");
  const steps = lines.filter((line) => line.kind === "step"),
    events = lines.filter((line) => line.kind === "freeze");
  const threshold = options.threshold ?? thresholdOf(events, steps);
  const frozenAt: Record<string, number> = {};
  for (const { step, frozen, thawed } of events) {
    for (const path of thawed) delete frozenAt[path];
    for (const path of frozen) frozenAt[path] = step;
  }
  const values = threshold === undefined
    ? []
    : steps.flatMap(({ step, readings }) =>
      Object.entries(readings[threshold.signal] ?? {}).map(([path, value]) => ({ path, step, value }))
    );
  return {
    title,
    summary,
    config: start.config,
    rows: steps.map((line) => ({ ...line, loss: line.loss ?? NaN, learningRate: line.learningRate ?? NaN })),
    events,
    changes: explain(lines).changes,
    components,
    frozenAt,
    readings: threshold === undefined ? undefined : { ...threshold, values },
    samples: pair(start.sample, end?.sample),
    perplexity: pair(start.perplexity, end?.perplexity),
  };
}

/** What the reasons compare with, where all compare one signal, as it was measured, with one number. */
function thresholdOf(
  events: readonly FreezeLine[],
  steps: readonly StepLine[],
): { readonly signal: string; readonly tau: number } | undefined {
  const [first, ...others] = events.flatMap(({ reasons }) => Object.values(reasons ?? {}));
  if (first === undefined || !(first.threshold! > 0)) return undefined;
  const { signal, threshold: tau } = first;
  const alike = others.every((reason) => reason.signal === signal && reason.threshold === tau);
  return alike && steps.some(({ readings }) => signal in readings) ? { signal, tau: tau! } : undefined;
}

function pair<T>(before: T | undefined, after: T | undefined): { before: T; after: T } | undefined {
  return before === undefined || after === undefined ? undefined : { before, after };
}
