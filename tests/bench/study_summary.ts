/**
 * What the lines of the study say: for each task and arm the best rate, the means, and paired differences.
 *
 * @module
 */

import type { StudyLine } from "./study_lines.ts";
import {
  type Arm,
  FREEZING,
  isExploratory,
  PRIMARY,
  SHORTER,
  STOPPED,
  type StudyPlan,
  type StudyTask,
} from "./study_plan.ts";
import { finalRate } from "./study_run.ts";
import {
  type Difference,
  holm,
  interpolated,
  meanOf,
  medianOf,
  pairedDifference,
} from "./study_statistics.ts";
import { undisturbedSeconds, wholeSeconds } from "./study_times.ts";

/** A difference to a counterpart, which took longer where the arm was faster than all that it could be compared with. */
type Compared = Difference & { readonly slower?: true };

/** A difference, and its probability with Holm's correction for all of its kind. */
export type Corrected = Compared & { readonly corrected: number };

/** An arm on a task. */
export interface Summary {
  readonly task: StudyTask;
  readonly arm: Arm;
  /** The rate that tuning chose; null while it has not. */
  readonly rate: number | null;
  /** Its final runs; where there are none, the tuning run of that rate. */
  readonly lines: readonly StudyLine[];
  /** Final runs; 0 where `lines` is the tuning run. */
  readonly seeds: number;
  readonly mean: (value: (line: StudyLine) => number) => number;
  /** The median of its runs. */
  readonly seconds: number;
  /** Seconds of a machine that never stands still. */
  readonly undisturbed: number;
  /** For other times, which a single stall of the machine would distort. */
  readonly median: (value: (line: StudyLine) => number) => number;
  /** Quality above that of full training of the same seed. */
  readonly toFull: Corrected | null;
  /**
   * Quality above that of the best training without freezing that takes no longer, of the same seed; of an arm that is faster than
   * all of these above that of the fastest.
   */
  readonly atEqualTime: Corrected | null;
  /** The same, with changes of the frozen set in no time, as in a run that is so long that they do not matter. */
  readonly withoutChanges: Corrected | null;
  /** The same as at equal time, by the seconds of a machine that never stands still. */
  readonly atEqualUndisturbed: Corrected | null;
}

/** Seconds of runs of one arm. */
type Clock = (lines: readonly StudyLine[]) => number;

/** The run of a seed, of each arm that has one, with the time of the arm. */
function ofSeed(
  arms: readonly (readonly StudyLine[])[],
  { seed, clock }: { readonly seed: number; readonly clock: Clock },
): StudyLine[] {
  return arms.flatMap((lines) => {
    const own = lines.find((line) => line.seed === seed);
    return own === undefined ? [] : [{ ...own, seconds: clock(lines) }];
  });
}

/**
 * Quality of the best training without freezing that takes no longer, of one seed: a run with a schedule of its own, what lies on
 * the line between two of these at that time, or full training that was stopped by then. Which one is best is told by the
 * validation part, as a user would choose it.
 */
function shorterAt(
  { shorter, stopped }: Record<"shorter" | "stopped", readonly (readonly StudyLine[])[]>,
  { seed, seconds, clock }: { readonly seed: number; readonly seconds: number; readonly clock: Clock },
): number | null {
  const runs = ofSeed(shorter, { seed, clock });
  if (runs.length < SHORTER.length) return null;
  const stops = ofSeed(stopped, { seed, clock }), full = runs.filter(({ arm }) => arm === "full");
  const between = [runs, stops.length === 0 ? [] : [...stops, ...full]].flatMap((lines) => {
    const at = (value: (line: StudyLine) => number): number | null =>
      interpolated(lines.map((line) => [line.seconds, value(line)]), seconds);
    const [quality, validation] = [at((line) => line.quality), at((line) => line.validation)];
    return quality === null || validation === null ? [] : [{ quality, validation }];
  });
  const found = [...between, ...[...runs, ...stops].filter((line) => line.seconds <= seconds)];
  return found.length === 0
    ? null
    : found.reduce((best, one) => one.validation > best.validation ? one : best).quality;
}

/** Differences of the runs to their counterparts, without an interval of a single one; null where a run has none. */
function differenceOf(
  lines: readonly StudyLine[],
  counterpart: (line: StudyLine) => number | null,
): Difference | null {
  const found = lines.flatMap((line) => {
    const other = counterpart(line);
    return other === null ? [] : [line.quality - other];
  });
  if (found.length < lines.length) return null;
  return found.length === 1
    ? { mean: found[0], low: NaN, high: NaN, p: 1, count: 1 }
    : pairedDifference(found);
}

const KINDS = ["toFull", "atEqualTime", "withoutChanges", "atEqualUndisturbed"] as const;
type Kind = typeof KINDS[number];
type Raw = Omit<Summary, Kind> & { readonly [K in Kind]: Compared | null };

function rawOf({ plan, lines, task, arm, given }: {
  readonly plan: StudyPlan;
  readonly lines: readonly StudyLine[];
  readonly task: StudyTask;
  readonly arm: Arm;
  /** Its final runs, where they are not those of the plan. */
  readonly given?: readonly StudyLine[];
}): Raw | null {
  const of = (name: string): StudyLine[] => {
    const rate = finalRate(plan, { lines, task, arm: name });
    return lines.filter((line) =>
      line.task === task.name && line.arm === name && line.rate === rate && line.purpose === "final" &&
      plan.finalSeeds.includes(line.seed)
    );
  };
  const rate = finalRate(plan, { lines, task, arm }), final = given ?? of(arm);
  const tuned = lines.filter((line) =>
    line.task === task.name && line.arm === arm && line.purpose === "tune" &&
    (rate === null || line.rate === rate)
  );
  const best = tuned.toSorted((a, b) => b.validation - a.validation).slice(0, 1);
  const own = final.length > 0 ? final : best;
  if (own.length === 0) return null;
  const fulls = of("full");
  // A stop is compared with schedules that end, not with itself.
  const others = { shorter: SHORTER.map(of), stopped: STOPPED.includes(arm) ? [] : STOPPED.map(of) };
  const changes = medianOf(final.map(({ changing }) => changing));
  const equal = (clock: Clock, less = 0): Compared | null => {
    if (SHORTER.includes(arm)) return null;
    const fastest = Math.min(...SHORTER.map((name) => clock(of(name))));
    const own = clock(final) - less, slower = own < fastest, seconds = Math.max(own, fastest);
    const found = differenceOf(final, ({ seed }) => shorterAt(others, { seed, seconds, clock }));
    return found === null || !slower ? found : { ...found, slower };
  };
  return {
    task,
    arm,
    rate,
    lines: own,
    seeds: final.length,
    seconds: wholeSeconds(own),
    undisturbed: undisturbedSeconds(own),
    mean: (value) => meanOf(own.map(value)),
    median: (value) => medianOf(own.map(value)),
    toFull: arm === "full"
      ? null
      : differenceOf(final, ({ seed }) => fulls.find((line) => line.seed === seed)?.quality ?? null),
    atEqualTime: equal(wholeSeconds),
    withoutChanges: equal(wholeSeconds, changes),
    atEqualUndisturbed: equal(undisturbedSeconds),
  };
}

/** Which comparisons are corrected together: those of the arm that is put forward, of others that freeze, and of controls. */
function familyOf(one: { readonly task: StudyTask; readonly arm: Arm }): string {
  if (isExploratory(one)) return "exploratory";
  return one.arm === PRIMARY ? "primary" : FREEZING.includes(one.arm) ? "freezing" : "control";
}

/** A summary with the probability of each difference; those without one are left out. */
function withProbability(raw: Raw, of: (difference: Compared) => number | undefined): Summary {
  const known = (difference: Compared | null): Corrected | null => {
    const corrected = difference === null ? undefined : of(difference);
    return corrected === undefined ? null : { ...difference!, corrected };
  };
  return {
    ...raw,
    toFull: known(raw.toFull),
    atEqualTime: known(raw.atEqualTime),
    withoutChanges: known(raw.withoutChanges),
    atEqualUndisturbed: known(raw.atEqualUndisturbed),
  };
}

/**
 * Summaries of runs that the plan does not have, beside its own. Nothing is tested: a single seed has its differences, too.
 *
 * @param plan The plan
 * @param options Finished runs of the plan, and the others: those of a task, an arm and a rate together
 * @returns A summary of each group whose task the plan has
 */
export function summariseBeside(
  plan: StudyPlan,
  { lines, groups }: {
    readonly lines: readonly StudyLine[];
    readonly groups: readonly (readonly StudyLine[])[];
  },
): Summary[] {
  return groups.flatMap((given) => {
    const task = plan.tasks.find(({ name }) => name === given[0].task), arm = given[0].arm as Arm;
    const raw = task === undefined ? null : rawOf({ plan, lines, task, arm, given });
    return raw === null ? [] : [withProbability(raw, () => 1)];
  });
}

/**
 * Summaries of all tasks and arms that have a run. Holm's correction goes over all differences of a kind and a family; one of a single
 * seed is left out.
 *
 * @param plan The plan
 * @param lines Finished runs
 * @returns Summaries, task by task
 */
export function summarise(plan: StudyPlan, lines: readonly StudyLine[]): Summary[] {
  const raw = plan.tasks.flatMap((task) =>
    plan.arms.flatMap((arm) => rawOf({ plan, lines, task, arm }) ?? [])
  );
  const corrected = new Map<Compared, number>();
  for (const kind of KINDS) {
    for (const family of new Set(raw.map(familyOf))) {
      const found = raw.flatMap((one) => familyOf(one) === family ? one[kind] ?? [] : [])
        .filter(({ count }) => count > 1);
      const probabilities = holm(found.map(({ p }) => p));
      found.forEach((difference, i) => corrected.set(difference, probabilities[i]));
    }
  }
  return raw.map((one) => withProbability(one, (difference) => corrected.get(difference)));
}

/**
 * Whether a difference is above or below 0 beyond chance, by its corrected probability. To be worse than what took longer says nothing.
 */
export function verdictOf(difference: Corrected | null): "better" | "worse" | "open" | null {
  if (difference === null) return null;
  if (difference.corrected >= 0.05 || (difference.slower && difference.mean < 0)) return "open";
  return difference.mean > 0 ? "better" : "worse";
}
