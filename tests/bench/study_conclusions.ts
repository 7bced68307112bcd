/**
 * What the study shows, in plain sentences that are computed from its lines.
 *
 * @module
 */

import { counted } from "../../core/counted.ts";
import { cacheLine, cacheNumbers, type CacheResult } from "./study_cache.ts";
import type { StudyLine } from "./study_lines.ts";
import {
  type Arm,
  finalRuns,
  FREEZING,
  isExploratory,
  PRIMARY,
  SHORTER,
  type StudyPlan,
  type StudyTask,
  tuningRuns,
} from "./study_plan.ts";
import { bestRate } from "./study_run.ts";
import { medianOf } from "./study_statistics.ts";
import { type Corrected, type Summary, verdictOf } from "./study_summary.ts";
import { differenceText, isAccuracy, markdownTable } from "./study_table.ts";

/** Tasks by what a comparison of an arm says of them. */
interface Tasks {
  readonly better: readonly string[];
  readonly worse: readonly string[];
  readonly open: readonly string[];
  /** Where the interval alone, without Holm's correction, lies above 0. */
  readonly above: readonly string[];
}

/** What is compared. */
type Comparison = (summary: Summary) => Corrected | null;

/** Tasks of an arm; those on which it is exploratory are left out. */
function tasksOf(
  summaries: readonly Summary[],
  { arm, of }: { readonly arm: string; readonly of: Comparison },
): Tasks {
  const own = summaries.filter((summary) => summary.arm === arm && !isExploratory(summary));
  const named = (holds: (difference: Corrected) => boolean): string[] =>
    own.flatMap((summary) => {
      const difference = of(summary);
      return difference !== null && holds(difference) ? [summary.task.name] : [];
    });
  const by = (verdict: string): string[] => named((difference) => verdictOf(difference) === verdict);
  return { better: by("better"), worse: by("worse"), open: by("open"), above: named(({ low }) => low > 0) };
}

function listed(names: readonly string[]): string {
  return names.length === 0 ? "0" : `${names.length}: ${names.join(", ")}`;
}

/** How far the study is. */
export function progressLines(plan: StudyPlan, lines: readonly StudyLine[]): string[] {
  const tuned = lines.filter(({ purpose }) => purpose === "tune"),
    given =
      tuned.filter(({ task, rate }) =>
        plan.tasks.some((one) => one.name === task && one.rates.includes(rate))
      ).length;
  const arms = new Set<string>(plan.arms);
  const final = lines.filter((line) => line.purpose === "final" && arms.has(line.arm));
  const used = final.filter((line) => {
    const task = plan.tasks.find(({ name }) => name === line.task);
    return task !== undefined && bestRate(lines, { task, arm: line.arm }) === line.rate;
  }).length;
  const all = finalRuns(plan, ({ rates }) => rates[0]).length;
  const beyond = tuned.length > given ? `, with ${tuned.length - given} beyond the edges,` : "";
  const counts = `${given} of ${
    tuningRuns(plan).length
  } tuning runs${beyond} and ${used} of ${all} final runs are finished.`;
  // Where each arm has a final run somewhere, none is shown by its tuning run.
  const isBare = plan.tasks.some(({ name }) =>
    plan.arms.some((arm) => !final.some((line) => line.task === name && line.arm === arm))
  );
  if (used >= all || !isBare) return [counts];
  return [
    `${counts} What has no final run yet is shown by its tuning run, without differences: it says how long runs take, ` +
    "and nothing about quality.",
  ];
}

/** Seconds of full training over those of an arm, the middle one of its tasks, with the least and greatest. */
function speedText(summaries: readonly Summary[], arm: string): string {
  const times = summaries.filter((one) => one.arm === arm).flatMap((own) => {
    const full = summaries.find((one) => one.arm === "full" && one.task === own.task);
    return full === undefined || own.seeds < 2 ? [] : [full.undisturbed / own.undisturbed];
  });
  if (times.length === 0) return "";
  const [least, most] = [Math.min(...times), Math.max(...times)];
  return `${medianOf(times).toFixed(2)} (${least.toFixed(2)} – ${most.toFixed(2)})`;
}

/** What the arms come to: on which tasks each is better or worse. */
function armTable(plan: StudyPlan, summaries: readonly Summary[]): string[] {
  const rows = plan.arms.filter((arm) => arm !== "full" && summaries.some((one) => one.arm === arm)).map(
    (arm) => {
      const at = (of: Comparison): Tasks => tasksOf(summaries, { arm, of });
      const full = at((one) => one.toFull),
        equal = at((one) => one.atEqualTime),
        none = SHORTER.includes(arm);
      return [
        arm,
        speedText(summaries, arm),
        listed(full.better),
        listed(full.worse),
        none ? "" : listed(equal.better),
        none ? "" : listed(equal.worse),
        none ? "" : listed(at((one) => one.atEqualUndisturbed).better),
        none ? "" : listed(at((one) => one.withoutChanges).better),
      ];
    },
  );
  return markdownTable(
    [
      "arm",
      "times as fast as full, undisturbed",
      "better than full at its end",
      "worse",
      "better than shorter training at equal time",
      "worse",
      "better, undisturbed",
      "better if changes took no time",
    ],
    rows,
  );
}

/** What an arm is at equal wall-clock, in a sentence. */
function equalLine(summaries: readonly Summary[], arm: Arm): string {
  const { better, worse, open, above } = tasksOf(summaries, { arm, of: (one) => one.atEqualTime });
  const all = better.length + worse.length + open.length;
  const chance = above.length === better.length
    ? ""
    : ` (intervals alone, without the correction: ${listed(above)})`;
  return `- **${arm}**, at equal wall-clock against training for a shorter time, on ${
    counted(all, "task")
  }: better on ` +
    `${listed(better)}${chance}; worse on ${listed(worse)}; not told from chance on ${open.length}.`;
}

/** The arm that is put forward, on tasks that it was designed on. */
function exploratoryLines(summaries: readonly Summary[]): string[] {
  return summaries.filter(isExploratory).flatMap((summary) => {
    const { task, arm, atEqualTime: found } = summary;
    return found === null ? [] : [
      `- ${arm} on ${task.name}, where it was designed (exploratory), at equal wall-clock: ${
        differenceText(found, isAccuracy(summary))
      } ${isAccuracy(summary) ? "points" : "nats"}.`,
    ];
  });
}

/** Whether an arm has a run of each seed. */
function isWhole(
  { finalSeeds }: StudyPlan,
  summaries: readonly Summary[],
  { task, arm }: { readonly task: StudyTask; readonly arm: Arm },
): boolean {
  const own = summaries.find((one) => one.task === task && one.arm === arm);
  return own?.seeds === finalSeeds.length;
}

/** Whether some policy beats training for a shorter time on three tasks. */
function goalLine(plan: StudyPlan, summaries: readonly Summary[]): string[] {
  // What stops full training trains shorter itself.
  const policies = plan.arms.filter((arm) => [PRIMARY, ...FREEZING].includes(arm)).map((arm) => ({
    arm,
    tasks: tasksOf(summaries, { arm, of: (one) => one.atEqualTime }),
  }));
  const any = policies.some(({ tasks: { better, worse, open } }) =>
    better.length + worse.length + open.length > 0
  );
  const finished = plan.tasks.filter((task) =>
    plan.arms.every((arm) => isWhole(plan, summaries, { task, arm }))
  );
  if (!any) return ["Whether a policy beats “just train shorter” at equal wall-clock is not measured yet."];
  const winners = policies.filter(({ tasks }) => tasks.better.length >= 3);
  if (winners.length > 0) {
    return winners.map(({ arm, tasks }) =>
      `**${arm} beats “just train shorter” at equal wall-clock on ${tasks.better.length} tasks**: ${
        tasks.better.join(", ")
      }.`
    );
  }
  const [near] = policies.filter(({ tasks }) => tasks.above.length >= 3);
  return [
    "**No arm that freezes beats “just train shorter” at equal wall-clock on three tasks after Holm's correction**: " +
    `${finished.length} of ${counted(plan.tasks.length, "task")} ${
      finished.length === 1 ? "has" : "have"
    } all runs of all arms.` +
    (near === undefined
      ? ""
      : ` Intervals alone lie above zero on ${near.tasks.above.length} for ${near.arm}.`),
  ];
}

/** What the cache of a frozen prefix saved. */
export function cacheLines(results: readonly CacheResult[]): string[] {
  if (results.length === 0) return ["Not measured yet."];
  const [most] = results.map((result) => ({ result, ...cacheNumbers(result) })).sort((a, b) =>
    b.times - a.times
  );
  const within = results.filter((result) => {
    const { times, loss } = cacheNumbers(result);
    return times >= 1.8 && loss <= 0.01;
  });
  return [
    ...results.map((result) => `- ${cacheLine(result)}.`),
    "",
    within.length > 0
      ? `At least 1.8 times as fast with a loss at most 1 % higher: ${
        within.map(({ task, pairs }) => `${task}, by ${counted(pairs.length, "seed")}`).join("; ")
      }.`
      : `No task is 1.8 times as fast with a loss at most 1 % higher: the fastest is ${most.result.task}, ` +
        `${most.times.toFixed(2)} times.`,
  ];
}

/**
 * The conclusions, in Markdown.
 *
 * @param plan The plan
 * @param summaries What was measured
 * @returns Lines
 */
export function conclusionLines(plan: StudyPlan, summaries: readonly Summary[]): string[] {
  const final = summaries.filter(({ seeds }) => seeds > 0);
  const shown = [PRIMARY, ...FREEZING, "stop at 4/5 T" as const].filter((arm) =>
    final.some((one) => one.arm === arm && one.atEqualTime !== null)
  );
  const table = armTable(plan, final);
  return [
    ...goalLine(plan, final),
    "",
    ...shown.map((arm) => equalLine(final, arm)),
    ...exploratoryLines(final),
    ...final.length === 0 ? [] : ["", ...table],
  ];
}
