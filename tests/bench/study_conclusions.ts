/**
 * What the study shows, in plain sentences that are computed from its lines.
 *
 * @module
 */

import { cacheLine, cacheNumbers, type CacheResult } from "./study_cache.ts";
import type { StudyLine } from "./study_lines.ts";
import { finalRuns, SHORTER, STOPPED, type StudyPlan, tuningRuns } from "./study_plan.ts";
import { bestRate } from "./study_run.ts";
import { type Corrected, type Summary, verdictOf } from "./study_summary.ts";

/** How many tasks an arm is better and worse on, and not told apart. */
interface Count {
  readonly better: readonly string[];
  readonly worse: readonly string[];
  readonly open: number;
}

function countOf(
  summaries: readonly Summary[],
  { arm, of }: { readonly arm: string; readonly of: (summary: Summary) => Corrected | null },
): Count {
  const own = summaries.filter((summary) => summary.arm === arm);
  const names = (verdict: string): string[] =>
    own.filter((summary) => verdictOf(of(summary)) === verdict).map(({ task }) => task.name);
  return { better: names("better"), worse: names("worse"), open: names("open").length };
}

function countText({ better, worse, open }: Count): string {
  const list = (names: readonly string[]): string =>
    `${names.length}${names.length > 0 ? ` (${names.join(", ")})` : ""}`;
  return `better on ${list(better)}, worse on ${list(worse)}, not told from chance on ${open}`;
}

/** How far the study is. */
export function progressLines(plan: StudyPlan, lines: readonly StudyLine[]): string[] {
  const tuned = lines.filter(({ purpose }) => purpose === "tune").length;
  const arms = new Set<string>(plan.arms);
  const final = lines.filter((line) => line.purpose === "final" && arms.has(line.arm));
  const used = final.filter((line) => {
    const task = plan.tasks.find(({ name }) => name === line.task);
    return task !== undefined && bestRate(lines, { task, arm: line.arm }) === line.rate;
  }).length;
  const all = finalRuns(plan, ({ rates }) => rates[0]).length;
  const counts = `${tuned} of ${
    tuningRuns(plan).length
  } tuning runs and ${used} of ${all} final runs are finished.`;
  if (used >= all) return [counts];
  return [
    `${counts} What has no final run yet is shown by its tuning run, without differences: it says how long runs take, ` +
    "and nothing about quality.",
  ];
}

/** What the arms that freeze come to. */
function armLines(plan: StudyPlan, summaries: readonly Summary[]): string[] {
  const others = plan.arms.filter((arm) => !SHORTER.includes(arm));
  return others.flatMap((arm) => {
    const own = summaries.filter((summary) => summary.arm === arm && summary.toFull !== null);
    if (own.length === 0) return [];
    const equal = countOf(summaries, { arm, of: (one) => one.atEqualTime });
    const without = countOf(summaries, { arm, of: (one) => one.withoutChanges });
    const counted = equal.better.length + equal.worse.length + equal.open;
    const changes = own.some(({ mean }) => mean(({ changing }) => changing) > 0)
      ? ` If changes of the frozen set took no time: ${countText(without)}.`
      : "";
    return [
      `- **${arm}.** At its end, against full training: ${
        countText(countOf(summaries, { arm, of: (one) => one.toFull }))
      }. At equal wall-clock, against training for a shorter time: ` +
      (counted === 0
        ? "no comparison, as it is faster than half of the steps."
        : `${countText(equal)}${
          counted < own.length ? `, without a comparison on ${own.length - counted}` : ""
        }.`) +
      changes,
    ];
  });
}

/** Whether some policy beats training for a shorter time on three tasks. */
function goalLine(plan: StudyPlan, summaries: readonly Summary[]): string[] {
  // What stops full training trains shorter itself.
  const counted = plan.arms.filter((arm) => ![...SHORTER, ...STOPPED].includes(arm)).map((arm) => ({
    arm,
    count: countOf(summaries, { arm, of: (one) => one.atEqualTime }),
  }));
  const any = counted.some(({ count: { better, worse, open } }) => better.length + worse.length + open > 0);
  const tasks = new Set(summaries.filter(({ toFull }) => toFull !== null).map(({ task }) => task)).size;
  if (!any) return ["Whether a policy beats “just train shorter” at equal wall-clock is not measured yet."];
  const winners = counted.filter(({ count }) => count.better.length >= 3);
  return winners.length > 0
    ? winners.map(({ arm, count }) =>
      `**${arm} beats “just train shorter” at equal wall-clock on ${count.better.length} tasks**: ${
        count.better.join(", ")
      }.`
    )
    : [
      "**No arm beats “just train shorter” at equal wall-clock on three tasks with intervals that exclude zero after " +
      `Holm's correction**: ${tasks} of ${plan.tasks.length} tasks have runs of several seeds.`,
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
      ? `At least 1.8 times as fast with a loss within 1 %: ${within.map(({ task }) => task).join(", ")}.`
      : `No task is 1.8 times as fast with a loss within 1 %: the fastest is ${most.result.task}, ` +
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
  return [...goalLine(plan, final), "", ...armLines(plan, final)];
}
