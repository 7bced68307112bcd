/**
 * From the log of a run to the content of its report.
 *
 * @module
 */

import type { Component } from "../policy.ts";
import { explain, startOf } from "./explain.ts";
import type { FreezeLine, Line, RunReport, StartLine, StepLine, Threshold } from "./types.ts";

/** Options of {@link reportOf}. */
export interface ReportOptions extends Partial<Pick<RunReport, "title" | "summary">> {
  /** Components of the model; those of the log when absent. */
  readonly components?: readonly Component[];
  /** What the policy compares with; when absent, what the log says, or the reasons in it name. */
  readonly threshold?: Threshold;
}

/**
 * Makes the content of the report.
 *
 * @param lines The log, from its start; the run may be under way
 * @param options What the log does not say; the title names model and data when absent
 * @returns The content, for {@link renderReport}
 * @throws {DataError} When no line is the start of a run
 */
export function reportOf(
  lines: readonly Line[],
  options: ReportOptions = {},
): RunReport {
  const start = startOf(lines), { title = titleOf(start), summary = [] } = options;
  const components = options.components ??
    lines.find((line) => line.kind === "components")?.components ?? [];
  const end = lines.find((line) => line.kind === "end");
  const steps = lines.filter((line) => line.kind === "step"),
    events = lines.filter((line) => line.kind === "freeze");
  const threshold = options.threshold ?? start.threshold ?? thresholdOf(events, steps);
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
    written: [
      ...start.sample !== undefined && end?.sample === undefined ? [{ step: 0, text: start.sample }] : [],
      ...lines.filter((line) => line.kind === "sample"),
    ],
    evaluations: lines.filter((line) => line.kind === "evaluation"),
    perplexity: pair(start.perplexity, end?.perplexity),
  };
}

/**
 * Names a run by what its settings say of the model and of the data.
 *
 * @param start The line that says what the run is
 * @returns The name, such as `"SmolLM2-135M on sotu"`
 */
export function titleOf({ config }: Pick<StartLine, "config">): string {
  const text = (value: unknown): string | null => typeof value === "string" && value !== "" ? value : null;
  const model = text(config.model)?.replace(/[\\/]+$/, "").split(/[\\/]/).at(-1) ?? "A run",
    data = text(config.data);
  return data === null ? model : `${model} on ${data}`;
}

/** What the reasons compare with, where all compare one signal, as it was measured, with one number. */
function thresholdOf(
  events: readonly FreezeLine[],
  steps: readonly StepLine[],
): Threshold | undefined {
  const [first, ...others] = events.flatMap(({ reasons }) => Object.values(reasons ?? {}));
  if (first === undefined || !(first.threshold! > 0)) return undefined;
  const { signal, threshold: tau } = first;
  const alike = others.every((reason) => reason.signal === signal && reason.threshold === tau);
  return alike && steps.some(({ readings }) => signal in readings) ? { signal, tau: tau! } : undefined;
}

function pair<T>(before: T | undefined, after: T | undefined): { before: T; after: T } | undefined {
  return before === undefined || after === undefined ? undefined : { before, after };
}
