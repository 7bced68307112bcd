/**
 * How long the runs that are left will take, by those that are finished.
 *
 * @module
 */

import type { StudyLine } from "./study_lines.ts";
import type { StudyPlan } from "./study_plan.ts";
import { expectedSeconds, nextCourse } from "./study_run.ts";

/** Seconds of a training of each arm of a task, as far as there are any. */
function armsText({ arms }: StudyPlan, own: readonly StudyLine[]): string {
  return arms.flatMap((arm) => {
    const walls = own.flatMap((line) => line.arm === arm && line.wall !== undefined ? [line.wall] : []);
    return walls.length === 0 ? [] : [`${arm} ${Math.min(...walls).toFixed(2)}`];
  }).join(", ");
}

/**
 * Estimates each task. Rates beyond the edges are left out: which arms need one is not known before.
 *
 * @param plan The plan
 * @param lines Finished runs
 * @returns A line for each task
 */
export function estimateLines(plan: StudyPlan, lines: readonly StudyLine[]): string[] {
  return plan.tasks.map((task) => {
    const own = lines.filter((line) => line.task === task.name), made = own.slice();
    let seconds = 0, trainings = 0;
    for (let next = nextCourse({ ...plan, tasks: [task] }, made); next !== null; trainings++) {
      seconds += expectedSeconds(own, next);
      const { run, arms } = next, validation = run.rate === task.rates[1] ? 1e9 : -1e9;
      for (const arm of arms) made.push({ ...run, task: task.name, arm, validation } as unknown as StudyLine);
      next = nextCourse({ ...plan, tasks: [task] }, made);
    }
    const of = armsText(plan, own);
    return `${task.name}: ${trainings} trainings left${
      of === "" ? "" : `, about ${seconds.toFixed(0)} s; seconds of a training: ${of}`
    }`;
  });
}
