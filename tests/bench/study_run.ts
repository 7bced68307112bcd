/**
 * Makes the runs of the plan that are not finished yet, as long as there is time.
 *
 * @module
 */

import { DeviceLostError, NonFiniteError } from "@firn/train";
import { collector } from "./collect.ts";
import { keyOf, keyOfPlanned, type LineFile, type StudyLine } from "./study_lines.ts";
import type { Subject } from "./study_models.ts";
import {
  type Arm,
  beyond,
  finalRuns,
  lengthOf,
  OF_FULL,
  type PlannedRun,
  type StudyPlan,
  type StudyTask,
  tuningRuns,
} from "./study_plan.ts";
import { medianOf } from "./study_statistics.ts";
import { type StudyCourse, type StudyLab, trainCourse } from "./study_train.ts";

/** Quality of a training whose numbers were no longer finite: below all others. */
export const DIVERGED = -1e6;

/** What identifies an arm of a task. */
interface OfArm {
  readonly task: StudyTask;
  readonly arm: string;
}

function tunedLines(lines: readonly StudyLine[], { task, arm }: OfArm): StudyLine[] {
  return lines.filter((line) => line.task === task.name && line.arm === arm && line.purpose === "tune");
}

/** Of runs that are equally good the first counts: the middle rate is tuned before the others. */
function bestOf(lines: readonly StudyLine[]): StudyLine {
  return lines.reduce((best, line) => line.validation > best.validation ? line : best);
}

/** The rate beyond the edge that an arm is to be tuned at, too; null where there is none, or the task's rates are not tuned yet. */
function extraRate(lines: readonly StudyLine[], { task, arm }: OfArm): number | null {
  const own = tunedLines(lines, { task, arm });
  const given = task.rates.flatMap((rate) => own.find((line) => line.rate === rate) ?? []);
  if (given.length < task.rates.length) return null;
  return beyond(task, bestOf(own.filter((line) => given.includes(line))).rate);
}

/**
 * The rate that tuning chose for an arm: that of the best quality on the validation part.
 *
 * @param lines Finished runs
 * @param of Task and arm
 * @returns The rate; null while one of the task's rates, or the one beyond their edge that the arm needs, has no run
 */
export function bestRate(
  lines: readonly StudyLine[],
  { task, arm }: OfArm,
): number | null {
  const own = tunedLines(lines, { task, arm }), extra = extraRate(lines, { task, arm });
  const wanted = extra === null ? task.rates : [...task.rates, extra];
  if (wanted.some((rate) => own.every((line) => line.rate !== rate))) return null;
  return bestOf(own).rate;
}

/** Tuning runs beyond the edges of the rates. */
function extraRuns({ tasks, arms, tuningSeed: seed }: StudyPlan, lines: readonly StudyLine[]): PlannedRun[] {
  return tasks.flatMap((task) =>
    arms.flatMap((arm): PlannedRun[] => {
      const rate = extraRate(lines, { task, arm });
      return rate === null ? [] : [{ task, arm, rate, seed, purpose: "tune" }];
    })
  );
}

/** The threshold of GradES that the tuning run of an arm found at a rate. */
function tauFrom(lines: readonly StudyLine[], { task, arm, rate, purpose }: PlannedRun): number | null {
  if (purpose === "tune") return null;
  const found = lines.find((line) =>
    line.purpose === "tune" && line.task === task.name && line.arm === arm && line.rate === rate
  );
  return found?.tau ?? null;
}

/**
 * The rate that an arm trains by in final runs.
 *
 * @param plan Its plan
 * @param options Finished runs, task and arm
 * @returns The rate; null while tuning has not chosen one
 */
export function finalRate(
  { untuned, tuned }: StudyPlan,
  { lines, task, arm }: OfArm & { readonly lines: readonly StudyLine[] },
): number | null {
  const from = tuned ?? lines;
  return untuned ? breadthRate(from, task) : bestRate(from, { task, arm });
}

/** Which rate the arms of the breadth train by: that of full training in the core, else the middle one. */
function breadthRate(lines: readonly StudyLine[], task: StudyTask): number {
  return bestRate(lines, { task, arm: "full" }) ?? task.rates[1];
}

/** All runs of a plan, in order, given what is finished: task by task, so that a break leaves whole tasks. */
function wantedRuns(plan: StudyPlan, lines: readonly StudyLine[]): PlannedRun[] {
  const final = (own: StudyPlan): PlannedRun[] =>
    finalRuns(own, (task, arm) => finalRate(plan, { lines, task, arm }));
  if (plan.untuned) return final(plan);
  return plan.tasks.flatMap((task) => {
    const own = { ...plan, tasks: [task] };
    const tuning = plan.tuned === undefined ? [...tuningRuns(own), ...extraRuns(own, lines)] : [];
    return [...tuning, ...final(own)];
  });
}

/**
 * The next training to make: the first run without a line, and those that can be read off the same training.
 *
 * @param plan The plan
 * @param lines Finished runs
 * @param failed Names of runs that failed and are not tried again
 * @returns It; null when all is done
 */
export function nextCourse(
  plan: StudyPlan,
  lines: readonly StudyLine[],
  failed: ReadonlySet<string> = new Set(),
): { readonly run: PlannedRun; readonly arms: readonly Arm[]; readonly tau: number | null } | null {
  const finished = new Set(lines.map(keyOf));
  const left = wantedRuns(plan, lines).filter((run) => {
    const key = keyOfPlanned(run);
    return !finished.has(key) && !failed.has(key);
  });
  if (left.length === 0) return null;
  const [first] = left, tau = tauFrom(plan.tuned ?? lines, first);
  if (!OF_FULL.includes(first.arm)) return { run: first, arms: [first.arm], tau };
  const alike = left.filter((run) =>
    OF_FULL.includes(run.arm) &&
    keyOfPlanned({ ...run, arm: "full" }) === keyOfPlanned({ ...first, arm: "full" })
  );
  return { run: { ...first, arm: "full" }, arms: alike.map(({ arm }) => arm), tau };
}

/** What {@link makeRuns} needs besides the lab. */
export interface MakeOptions {
  readonly plan: StudyPlan;
  readonly file: LineFile;
  /** Opens a task, once. */
  subjectOf(task: StudyTask): Promise<Subject>;
  /** Seconds of `now` at which all must have ended: no run begins that would not. */
  readonly seconds: number;
  /** Seconds so far; those of the process when absent. */
  readonly now?: () => number;
  /** Most trainings; no limit when absent. */
  readonly most?: number;
  /** Told of a training: its lines, and the seconds that it took with opening the task. */
  readonly onLines?: (
    lines: readonly StudyLine[],
    seconds: { readonly all: number; readonly opening: number },
  ) => void;
  /** Told of a training that failed. All others go on, as time on a GPU is short; it is tried again by the next command. */
  readonly onFailure?: (run: PlannedRun, error: unknown) => void;
}

/**
 * Makes runs until all are finished or the time is over.
 *
 * @param lab Device and lengths
 * @param options Plan, file, time
 * @returns Whether all runs of the plan are finished
 */
export async function makeRuns(lab: StudyLab, options: MakeOptions): Promise<boolean> {
  const { plan, file, seconds, most = Infinity, now = () => performance.now() / 1000 } = options;
  const failed = new Set<string>(), collect = collector();
  for (let made = 0; made < most; made++) {
    const next = nextCourse(plan, file.lines, failed);
    if (next === null || now() + expectedSeconds(file.lines, next) > seconds) break;
    collect();
    const at = now();
    try {
      const since = (): number => now() - at;
      const subject = await options.subjectOf(next.run.task), opening = since();
      const made = await trained(lab, { ...next, subject });
      const lines = made.map((line): StudyLine => ({
        ...line,
        wall: since() - opening,
        together: made.length,
      }));
      for (const line of lines) await file.add(line);
      options.onLines?.(lines, { all: since(), opening });
    } catch (error) {
      if (error instanceof DeviceLostError || options.onFailure === undefined) throw error;
      options.onFailure(next.run, error);
      for (const arm of next.arms) failed.add(keyOfPlanned({ ...next.run, arm }));
    }
  }
  return nextCourse(plan, file.lines) === null;
}

/** Seconds that a training takes by those of its task and arm, or else of its task; 0 where there are none. */
export function expectedSeconds(
  lines: readonly StudyLine[],
  { run, arms }: { readonly run: PlannedRun; readonly arms: readonly Arm[] },
): number {
  const own = lines.filter(({ task, wall }) => task === run.task.name && wall !== undefined);
  const alike = own.filter((line) => arms.some((arm) => line.arm === arm));
  const seconds = (alike.length > 0 ? alike : own).map(({ wall }) => wall!);
  return seconds.length === 0 ? 0 : alike.length > 0 ? Math.min(...seconds) : medianOf(seconds);
}

/** Lines of a training; where its numbers left the finite, lines that say so. */
async function trained(lab: StudyLab, course: StudyCourse): Promise<StudyLine[]> {
  try {
    return await trainCourse(lab, course);
  } catch (error) {
    if (!(error instanceof NonFiniteError)) throw error;
    const { task, rate, seed, purpose } = course.run,
      none = { seconds: 0, setup: 0, compiling: 0, changing: 0, validating: 0 };
    return course.arms.map((arm): StudyLine => ({
      ...{
        task: task.name,
        arm,
        rate,
        seed,
        purpose,
        planned: lengthOf(lab, task).steps,
        steps: 0,
        best: 0,
        ...none,
      },
      ...{ flops: 0, joules: null, peakBytes: 0, quality: DIVERGED, loss: -DIVERGED, validation: DIVERGED },
      ...{ start: DIVERGED, perplexity: null, frozen: 0, components: 0, tau: null, policy: null, curve: [] },
      ...{ precision: lab.precision, versions: lab.versions, date: new Date().toISOString() },
    }));
  }
}
