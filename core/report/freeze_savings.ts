/**
 * What freezing saved and cost in a run, against a forecast of the same run without it.
 *
 * @module
 */

import { median } from "./numbers.ts";
import type { Line, StepLine } from "./types.ts";

/** A number of a run: of all planned steps without a freeze, and as it came. */
export interface Forecast {
  /** Of the planned steps, as they were before the first freeze. */
  readonly forecast: number;
  /** Of the steps that were taken. */
  readonly real: number;
}

/** What freezing saved and cost. */
export interface FreezeSavings {
  /** Steps, as planned and as taken. */
  readonly steps: Forecast;
  /** Floating-point operations. */
  readonly flops: Forecast;
  /** Seconds of the steps, with looks; null where the first freeze came before a step without compiling was timed. */
  readonly seconds: Forecast | null;
  /** Changes of the frozen set. */
  readonly changes: number;
  /**
   * Seconds that the first looks after changes took longer than later ones, as new steps are compiled; null where a change had no
   * later look to compare with.
   */
  readonly changeSeconds: number | null;
}

/**
 * Compares a run with a forecast of it without freezing: its planned steps, each as those before the first freeze were.
 *
 * @param lines Its log
 * @returns The comparison; null when the log has no steps
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { freezeSavings, type Line } from "@firn/train/report";
 *
 * const step = { kind: "step", loss: 1, learningRate: 0.1, launches: 5, frozen: 0, readings: {} } as const;
 * const cost = (flops: number) => ({ launches: 5, flops, matmulFlops: flops, bytes: 1, memory: 1, constants: 0 });
 * const log: Line[] = [
 *   { kind: "start", config: { steps: 8 }, adapter: "a GPU" },
 *   ...[500, 100, 100, 100].map((stepMs, i): Line => ({ ...step, step: i + 1, stepMs, flops: 10 })),
 *   { kind: "freeze", step: 4, frozen: ["a"], thawed: [], before: cost(10), after: cost(6) },
 *   ...[150, 50].map((stepMs, i): Line => ({ ...step, step: i + 5, stepMs, flops: 6 })),
 * ];
 * assertEquals(freezeSavings(log), {
 *   steps: { forecast: 8, real: 6 },
 *   flops: { forecast: 80, real: 52 },
 *   seconds: { forecast: 1.2, real: 1 },
 *   changes: 1,
 *   changeSeconds: 0.1,
 * });
 * ```
 */
export function freezeSavings(lines: readonly Line[]): FreezeSavings | null {
  const steps = lines.filter((line) => line.kind === "step");
  const events = lines.filter((line) => line.kind === "freeze");
  const planned = lines.find((line) => line.kind === "start")?.config.steps;
  if (steps.length === 0) return null;
  const count = typeof planned === "number" ? Math.max(planned, steps.length) : steps.length;
  const spans = [0, ...events.map(({ step }) => step)].map((from, i) =>
    spanOf(steps.filter(({ step }) => step > from && step <= (events[i]?.step ?? Infinity)))
  );
  const [first, ...others] = spans,
    total = (of: (span: Span) => number): number => spans.reduce((sum, span) => sum + of(span), 0);
  const full = events[0]?.before.flops ?? steps[0].flops;
  return {
    steps: { forecast: count, real: steps.length },
    flops: { forecast: count * full, real: steps.reduce((sum, { flops }) => sum + flops, 0) },
    seconds: first.pace === null ? null : {
      forecast: (first.ms + (count - first.count) * first.pace) / 1000,
      real: total(({ ms }) => ms) / 1000,
    },
    changes: events.length,
    changeSeconds: others.some(({ extra }) => extra === null)
      ? null
      : others.reduce((sum, { extra }) => sum + extra!, 0) / 1000,
  };
}

/** Steps between two changes: their milliseconds, the median without the first look, and what that look took longer. */
interface Span {
  readonly count: number;
  readonly ms: number;
  readonly pace: number | null;
  /** Null where there is no later look. */
  readonly extra: number | null;
}

function spanOf(steps: readonly StepLine[]): Span {
  const ms = steps.reduce((sum, { stepMs }) => sum + stepMs, 0), count = steps.length;
  // All steps of a look have its mean.
  const later = steps.filter(({ stepMs }) => stepMs !== steps[0].stepMs);
  if (later.length === 0) return { count, ms, pace: null, extra: count === 0 ? 0 : null };
  const pace = median(later.map(({ stepMs }) => stepMs));
  return { count, ms, pace, extra: Math.max(0, (steps[0].stepMs - pace) * (count - later.length)) };
}
