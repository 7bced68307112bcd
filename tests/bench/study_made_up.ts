/**
 * Runs of the study with numbers that are made up, for tests of its report.
 *
 * @module
 */

import type { StudyLine } from "./study_lines.ts";
import type { PlannedRun } from "./study_plan.ts";

/** Seconds of an arm, and its loss. */
const MADE_UP: Record<string, readonly [seconds: number, loss: number]> = {
  "full": [4, 3],
  "3/4 of the steps": [3, 3.1],
  "1/2 of the steps": [2, 3.3],
  "stop at alpha T": [2.2, 3.4],
  "stop at 4/5 T": [3.2, 3.08],
  "early stopping": [5, 3],
  "GradES": [2.5, 3.2],
  "auto": [2.5, 3.1],
  "bottom 50 %": [2.1, 3.3],
  "random 50 %": [3, 3.1],
};

/** A run with made-up numbers, and a little chance by seed. */
export function madeUp({ task, arm, rate, seed, purpose }: PlannedRun): StudyLine {
  const [seconds, loss] = MADE_UP[arm], chance = ((seed * 7 + arm.length) % 5) / 1000;
  const quality = -loss - chance;
  return {
    ...{ task: task.name, arm, rate, seed, purpose, planned: 120, steps: 120, best: 120, seconds, setup: 1 },
    ...{
      compiling: 0.1,
      changing: arm === "auto" ? 0.5 : 0,
      validating: 0,
      flops: seconds * 1e12,
      joules: null,
    },
    // The middle rate is the best.
    validation: quality - (rate === task.rates[1] ? 0 : 1),
    ...{ peakBytes: 1e9, quality, loss: -quality, start: -5, perplexity: [20, 25], frozen: 0, components: 9 },
    ...{
      tau: null,
      policy: null,
      precision: "f16",
      versions: { adapter: "H200" },
      date: "2026-11-29T00:00:00Z",
    },
    curve: [[0, 0, 0, -5], [seconds / 4, 30, seconds / 4 * 1e12, -4], [
      seconds / 2,
      60,
      seconds / 2 * 1e12,
      -4,
    ], [seconds, 120, seconds * 1e12, quality]],
  };
}
