/**
 * Seconds of an arm: as they were, and as they would be on a machine that never stands still.
 *
 * A driver or a host that stalls adds up to seconds to a part of a run, and takes none away. So a part, from one point of the curve
 * to the next, counts with the fastest pace of all seeds, as `timeit` of Python counts repetitions.
 *
 * @module
 */

import type { CurvePoint, StudyLine } from "./study_lines.ts";
import { medianOf } from "./study_statistics.ts";

/** Runs of one arm. */
type Runs = readonly Pick<StudyLine, "curve">[];

/** The pace from a point of a curve to the one before it, seconds a step. */
function paceTo(curve: readonly CurvePoint[], i: number): number {
  return (curve[i][0] - curve[i - 1][0]) / (curve[i][1] - curve[i - 1][1]);
}

/** The median of whole runs, stalls included. */
export function wholeSeconds(runs: readonly Pick<StudyLine, "seconds">[]): number {
  return medianOf(runs.map(({ seconds }) => seconds));
}

/**
 * Seconds at each point of the curve of a run, by the fastest pace of all runs.
 *
 * @param runs Runs of one arm, with points at the same steps but for their ends
 * @returns From a run to its seconds, 0 first
 */
export function undisturbedCurve(runs: Runs): (run: Runs[number]) => number[] {
  const parts = Math.max(...runs.map(({ curve }) => curve.length));
  const paces = Array.from(
    { length: parts },
    (_, i) =>
      i === 0 ? 0 : Math.min(...runs.flatMap(({ curve }) => i < curve.length ? [paceTo(curve, i)] : [])),
  );
  return ({ curve }) => {
    let seconds = 0;
    return curve.map(([, step], i) => seconds += i === 0 ? 0 : paces[i] * (step - curve[i - 1][1]));
  };
}

/**
 * Seconds of an arm on a machine that never stands still: the median of its runs, each by the fastest paces.
 *
 * @param runs Runs of one arm
 * @param points Points of the curve up to which it counts; all when absent
 * @returns Seconds; NaN of no runs, and where a run has fewer points
 */
export function undisturbedSeconds(runs: Runs, points = Infinity): number {
  const seconds = undisturbedCurve(runs);
  return medianOf(runs.map((run) => seconds(run).at(points === Infinity ? -1 : points) ?? NaN));
}
